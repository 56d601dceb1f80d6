"""Keeps objects in s3rver with boto3."""

import sys

import boto3

keys = {
    "endpoint_url": sys.argv[1],
    "region_name": "us-east-1",
    "aws_access_key_id": "S3RVER",
    "aws_secret_access_key": "S3RVER",
}
client = boto3.client("s3", config=boto3.session.Config(s3={"addressing_style": "path"}), **keys)
for bucket in ("thumbnails", "exports", "archive"):
    client.create_bucket(Bucket=bucket)
    for number in range(12):
        key = f"customers/{1000 + number}/{'abc'[number % 3]}/scan.png"
        client.put_object(Bucket=bucket, Key=key, Body=b"content" * number)
        client.get_object(Bucket=bucket, Key=key)
        client.head_object(Bucket=bucket, Key=key)
    client.list_objects_v2(Bucket=bucket)
    client.delete_object(Bucket=bucket, Key="customers/1000/a/scan.png")
client.list_buckets()
