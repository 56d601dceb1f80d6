set -eu
cat >app.py <<PYTHON
import gradio

inputs = ["text", "number"]
app = gradio.Interface(lambda name, times: name * int(times), inputs, "text", api_name="repeat")
app.launch(server_name="127.0.0.1", server_port=$PORT)
PYTHON
exec env GRADIO_ANALYTICS_ENABLED=False python app.py
