set -eu
python - "$PORT" <<'PYTHON'
import json
import sys

port = int(sys.argv[1])
resources = {}
for name in ("lakes", "stations", "trails", "wells", "bridges", "parcels"):
    features = [
        {"type": "Feature", "id": number, "geometry": {"type": "Point", "coordinates": [number % 90, number % 45]},
         "properties": {"label": f"{name} {number}"}}
        for number in range(40)
    ]
    with open(f"{name}.geojson", "w") as file:
        json.dump({"type": "FeatureCollection", "features": features}, file)
    resources[name] = {
        "type": "collection", "title": name, "description": name, "keywords": [name], "links": [],
        "extents": {"spatial": {"bbox": [-180, -90, 180, 90]}},
        "providers": [{"type": "feature", "name": "GeoJSON", "data": f"{name}.geojson", "id_field": "id"}],
    }
resources["hello-world"] = {"type": "process", "processor": {"name": "HelloWorld"}}
text = {"title": "maps", "description": "maps", "keywords": ["maps"], "keywords_type": "theme",
        "terms_of_service": "none", "url": "http://127.0.0.1"}
config = {
    "server": {"bind": {"host": "127.0.0.1", "port": port}, "url": f"http://127.0.0.1:{port}", "mimetype": "application/json",
               "encoding": "utf-8", "language": "en-US", "limits": {"default_items": 10, "max_items": 100},
               "map": {"url": "http://127.0.0.1/{z}", "attribution": "none"},
               "manager": {"name": "TinyDB", "connection": "jobs.db", "output_dir": "."}},
    "logging": {"level": "ERROR"},
    "metadata": {"identification": text, "license": {"name": "CC0", "url": "http://127.0.0.1"},
                 "provider": {"name": "maps", "url": "http://127.0.0.1"},
                 "contact": {"name": "maps", "position": "office"}},
    "resources": resources,
}
with open("config.yml", "w") as file:
    json.dump(config, file)
PYTHON
export PYGEOAPI_CONFIG=config.yml PYGEOAPI_OPENAPI=openapi.yml
pygeoapi openapi generate config.yml --output-file openapi.yml
exec gunicorn --bind "127.0.0.1:$PORT" pygeoapi.flask_app:APP
