"""`apidae` as a version whose capture no other version can take over, and which is else the same: its kernel side need
not be compiled for a test."""

from sensor import prepared
from sensor.main import main

if __name__ == "__main__":
    prepared.make_lineage = lambda **_: "another version"
    main()
