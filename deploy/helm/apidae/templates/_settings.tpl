{{- /*
What the chart sets of each program, under what the user set. Both become a TOML file.
*/ -}}
{{- define "apidae.sensorSettings" -}}
{{- $own := dict
  "collector" (printf "%s:%d" (include "apidae.collectorHost" .) (int .Values.collector.service.grpcPort))
  "collector_ca_file" "/etc/apidae/tls/ca.crt"
  "enrollment_token_file" "/var/run/secrets/apidae/token"
  "cgroup_path" "/host/cgroup"
  "state_dir" "/var/lib/apidae/sensor"
  "run_dir" "/run/apidae"
  "first_contact_timeout_seconds" 3600
  "metrics_listen" (printf "%s:%d" .Values.listenAddress (int .Values.sensor.metricsPort)) }}
{{- if not .Values.sensor.settingsFromSecrets.token }}{{ $_ := set $own "token_file" "/etc/apidae/tokens/sensor-token" }}{{ end }}
{{- if .Values.sensor.hostProc }}{{ $_ := set $own "proc_path" "/host/proc" }}{{ end }}
{{- with .Values.cluster }}{{ $_ := set $own "cluster" . }}{{ end }}
{{- mergeOverwrite $own (deepCopy .Values.sensor.settings) | toJson }}
{{- end }}

{{- define "apidae.collectorSettings" -}}
{{- $own := dict
  "data_dir" "/var/lib/apidae/collector"
  "grpc_listen" (printf "%s:7443" .Values.listenAddress)
  "http_listen" (printf "%s:8443" .Values.listenAddress)
  "tls_cert_file" "/etc/apidae/tls/tls.crt"
  "tls_key_file" "/etc/apidae/tls/tls.key"
  "kubernetes_enrollment_accounts" (list (printf "%s/%s-sensor" .Release.Namespace (include "apidae.name" .)))
  "sensor_token_file" "/etc/apidae/tokens/sensor-token"
  "api_token_file" "/etc/apidae/tokens/api-token" }}
{{- with .Values.cluster }}{{ $_ := set $own "cluster" . }}{{ end }}
{{- mergeOverwrite $own (deepCopy .Values.collector.settings) | toJson }}
{{- end }}

{{- /* A dict as TOML. Helm reads every number as a float, and 67108864 must not become 6.7108864e+07. */ -}}
{{- define "apidae.toml" -}}
{{- range $name, $value := . }}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}
{{ $name }} = {{ int64 $value }}
{{- else }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Environment of settings that come from Secrets: (list "SENSOR" dict). */ -}}
{{- define "apidae.secretSettings" -}}
{{- $side := index . 0 }}
{{- range $name, $source := index . 1 }}
- name: APIDAE_{{ $side }}_{{ upper $name }}
  valueFrom: {secretKeyRef: {name: {{ $source.name | quote }}, key: {{ $source.key | quote }}}}
{{- end }}
{{- end }}

{{- /* The port of HOST:PORT. */ -}}
{{- define "apidae.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end }}
