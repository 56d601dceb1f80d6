"""Uses S3, DynamoDB and SQS of moto with boto3."""

import sys

import boto3

root = sys.argv[1]
keys = {"endpoint_url": root, "region_name": "us-east-1", "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}  # fmt: skip
s3 = boto3.client("s3", config=boto3.session.Config(s3={"addressing_style": "path"}), **keys)
for bucket in ("invoices", "backups", "images"):
    s3.create_bucket(Bucket=bucket)
    for number in range(12):
        key = f"{2020 + number % 5}/{number:02d}/report-{number}.pdf"
        s3.put_object(Bucket=bucket, Key=key, Body=b"content" * number)
        s3.get_object(Bucket=bucket, Key=key)
        s3.head_object(Bucket=bucket, Key=key)
    s3.list_objects_v2(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="2020/00/report-0.pdf")
s3.list_buckets()
dynamodb = boto3.client("dynamodb", **keys)
dynamodb.create_table(
    TableName="orders", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST",
)  # fmt: skip
for number in range(20):
    dynamodb.put_item(TableName="orders", Item={"id": {"S": str(number)}, "total": {"N": str(number)}})
    dynamodb.get_item(TableName="orders", Key={"id": {"S": str(number)}})
dynamodb.scan(TableName="orders")
sqs = boto3.client("sqs", **keys)
queue = sqs.create_queue(QueueName="jobs")["QueueUrl"]
for number in range(10):
    sqs.send_message(QueueUrl=queue, MessageBody=str(number))
    sqs.receive_message(QueueUrl=queue)
