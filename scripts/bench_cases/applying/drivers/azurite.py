"""Stores files in Azurite with the SDK of Azure."""

import contextlib
import sys

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient

KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
account = "devstoreaccount1"
client = BlobServiceClient(f"{sys.argv[1]}/{account}", credential={"account_name": account, "account_key": KEY})
for container in ("invoices", "photos", "backups", "logs", "models"):
    home = client.create_container(container)
    with contextlib.suppress(ResourceExistsError):
        home.create_container()
    home.get_container_properties()
    for number, name in enumerate(
        ("2026/01/a.pdf", "2026/02/b.pdf", "readme.txt", "raw/part-0001", "raw/deep/part-0002", "index")
    ):
        home.upload_blob(name, b"x" * (100 + number), overwrite=True)
        blob = home.get_blob_client(name)
        blob.get_blob_properties()
        blob.download_blob().readall()
        blob.set_blob_metadata({"kind": "test"})
    list(home.list_blobs())
    home.delete_blob("readme.txt")
list(client.list_containers())
client.get_service_properties()
client.delete_container("models")
