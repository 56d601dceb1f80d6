{{- /*
What the chart sets of each program, under what the user set. Both become a TOML file.
*/ -}}
{{- define "apidae.sensorSettings" -}}
{{- $own := dict
  "collector" (printf "%s:%d" (include "apidae.collectorHost" .) (int .Values.collector.service.grpcPort))
  "collector_ca_file" (include "apidae.trusted" .)
  "cgroup_path" "/host/cgroup"
  "state_dir" "/var/lib/apidae/sensor"
  "run_dir" "/run/apidae"
  "first_contact_timeout_seconds" 3600
  "takeover_wait_seconds" 600
  "metrics_listen" (printf "%s:%d" .Values.listenAddress (int .Values.sensor.metricsPort)) }}
{{- if include "apidae.usesTokens" . }}
{{- if not .Values.sensor.settingsFromSecrets.token }}{{ $_ := set $own "token_file" "/etc/apidae/tokens/sensor-token" }}{{ end }}
{{- end }}
{{- if include "apidae.usesCertificates" . }}{{ $_ := set $own "enrollment_token_file" "/etc/apidae/enrollment/token" }}{{ end }}
{{- if .Values.sensor.hostProc }}{{ $_ := set $own "proc_path" "/host/proc" }}{{ end }}
{{- if .Values.sensor.hostNetwork }}{{ $_ := set $own "ready_file" "/tmp/ready" }}{{ end }}
{{- with .Values.cluster }}{{ $_ := set $own "cluster" . }}{{ end }}
{{- mergeOverwrite $own (deepCopy .Values.sensor.settings) | toJson }}
{{- end }}

{{- define "apidae.collectorSettings" -}}
{{- $own := dict
  "data_dir" "/var/lib/apidae/collector"
  "grpc_listen" (printf "%s:7443" .Values.listenAddress)
  "http_listen" (printf "%s:8443" .Values.listenAddress)
  "tls_server_names" (include "apidae.certificateNames" . | fromJsonArray)
  "api_token_file" "/etc/apidae/tokens/api-token" }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $own "tls_cert_file" "/etc/apidae/tls/tls.crt" }}
{{- $_ := set $own "tls_key_file" "/etc/apidae/tls/tls.key" }}
{{- end }}
{{- if (include "apidae.authority" . | fromJson).secret }}
{{- $_ := set $own "ca_cert_file" "/etc/apidae/authority/ca.crt" }}
{{- $_ := set $own "ca_key_file" "/etc/apidae/authority/ca.key" }}
{{- end }}
{{- if include "apidae.usesTokens" . }}{{ $_ := set $own "sensor_token_file" "/etc/apidae/tokens/sensor-token" }}{{ end }}
{{- if include "apidae.usesCertificates" . }}
{{- $_ := set $own "kubernetes_enrollment_accounts" (list (printf "%s/%s-sensor" .Release.Namespace (include "apidae.name" .))) }}
{{- end }}
{{- with .Values.cluster }}{{ $_ := set $own "cluster" . }}{{ end }}
{{- if .Values.collector.alertTemplate }}
{{- if hasKey .Values.collector.settings "template_file" }}{{ fail "collector.alertTemplate and collector.settings.template_file are both set: keep one" }}{{ end }}
{{- if not .Values.collector.settingsFromSecrets.template_url }}{{ fail "collector.alertTemplate needs collector.settingsFromSecrets.template_url: where it goes" }}{{ end }}
{{- $_ := set $own "template_file" "/etc/apidae/config/alert.template" }}
{{- end }}
{{- with .Values.collector.otherClusters }}
{{- if hasKey $.Values.collector.settings "other_clusters" }}{{ fail "collector.otherClusters and collector.settings.other_clusters are both set: name all clusters in one of them" }}{{ end }}
{{- $others := list }}
{{- range $name, $_ := . }}{{ $others = append $others (printf "%s=/etc/apidae/clusters/%s" $name $name) }}{{ end }}
{{- $_ := set $own "other_clusters" $others }}
{{- end }}
{{- if .Values.collector.specsConfigMap }}
{{- if hasKey .Values.collector.settings "spec_paths" }}{{ fail "collector.specsConfigMap and collector.settings.spec_paths are both set: keep one" }}{{ end }}
{{- $_ := set $own "spec_paths" (list "/etc/apidae/specs") }}
{{- end }}
{{- mergeOverwrite $own (deepCopy .Values.collector.settings) | toJson }}
{{- end }}

{{- /* How sensors show who they are is the collector's setting; both sides follow it. Empty = no. */ -}}
{{- define "apidae.usesTokens" -}}
{{ if has (.Values.collector.settings.sensor_auth | default "auto") (list "token" "any") }}yes{{ end }}
{{- end }}

{{- define "apidae.usesCertificates" -}}
{{ if ne (.Values.collector.settings.sensor_auth | default "auto") "token" }}yes{{ end }}
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
