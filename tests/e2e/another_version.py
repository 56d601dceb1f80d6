"""`apidae` as a version whose capture no other version can take over, and which is else the same: its kernel side need
not be compiled for a test."""

from common.main import main
from sensor.agent import attach as prepared

if __name__ == "__main__":
    prepared.make_lineage = lambda **_: "another version"
    main()
