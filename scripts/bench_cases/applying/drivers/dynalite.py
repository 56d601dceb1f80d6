"""Uses the tables of dynalite with boto3."""

import sys

import boto3

keys = {"endpoint_url": sys.argv[1], "region_name": "eu-west-1", "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}  # fmt: skip
client = boto3.client("dynamodb", **keys)
for table in ("carts", "users"):
    client.create_table(
        TableName=table, KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST",
    )  # fmt: skip
    client.describe_table(TableName=table)
    for number in range(15):
        client.put_item(TableName=table, Item={"id": {"S": str(number)}, "total": {"N": str(number)}})
        client.get_item(TableName=table, Key={"id": {"S": str(number)}})
    client.query(TableName=table, KeyConditionExpression="id = :i", ExpressionAttributeValues={":i": {"S": "1"}})
    client.scan(TableName=table)
    client.delete_item(TableName=table, Key={"id": {"S": "1"}})
client.list_tables()
