"""Writes points to InfluxDB with its own client."""

import sys
from urllib.parse import urlsplit

from influxdb import InfluxDBClient

address = urlsplit(sys.argv[1])
client = InfluxDBClient(host=address.hostname, port=address.port)
client.ping()
client.create_database("weather")
client.switch_database("weather")
for number in range(20):
    client.write_points([{"measurement": "temperature", "tags": {"city": "rome"}, "fields": {"value": float(number)}}])
    client.query("select * from temperature limit 5")
client.get_list_database()
client.get_list_measurements()
