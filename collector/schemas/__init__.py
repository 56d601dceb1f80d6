"""What endpoints look like: states that sensors told, merged; as schemas, OpenAPI and Postman documents."""
