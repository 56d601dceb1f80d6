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
  "takeover_wait_seconds" 600
  "metrics_listen" (printf "%s:%d" .Values.listenAddress (int .Values.sensor.metricsPort)) }}
{{- if include "apidae.usesTokens" . }}
{{- $_ := set $own "token_file" "/etc/apidae/tokens/sensor-token" }}
{{- end }}
{{- if include "apidae.usesCertificates" . }}{{ $_ := set $own "enrollment_token_file" "/etc/apidae/enrollment/token" }}{{ end }}
{{- if .Values.sensor.hostProc }}{{ $_ := set $own "proc_path" "/host/proc" }}{{ end }}
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
{{- if .Values.collector.stateKey.name }}{{ $_ := set $own "state_key_file" "/etc/apidae/state/state.key" }}{{ end }}
{{- if gt (int .Values.collector.ingest.replicas) 0 }}{{ $_ := set $own "roles" (list "writer" "detect" "jobs" "api") }}{{ end }}
{{- if include "apidae.isShared" . }}
{{- range $name := list "state_url" "log_url" "store_url" }}
{{- if not (hasKey $.Values.collector.settings $name) }}{{ fail (printf "collector.settings.%s is not set: several collectors share state, log and tables; set it to a key of a Secret, {name: SECRET, key: KEY}" $name) }}{{ end }}
{{- end }}
{{- if not .Values.collector.stateKey.name }}{{ fail "collector.stateKey.name is not set: several collectors need the same key of the state's secrets; make a Secret with the output of `openssl rand -hex 32` and name it and its key" }}{{ end }}
{{- end }}
{{- if .Values.collector.alertTemplate }}
{{- $uses := list }}
{{- range .Values.collector.settings.notifiers }}{{ $uses = append $uses .template_file }}{{ end }}
{{- if not (has "/etc/apidae/config/alert.template" $uses) }}{{ fail "collector.alertTemplate is used by no receiver: add one of kind template to collector.settings.notifiers, with template_file: /etc/apidae/config/alert.template" }}{{ end }}
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

{{- /* Whether there is more than one collector. Empty = no. */ -}}
{{- define "apidae.isShared" -}}
{{ if or (gt (int .Values.collector.replicas) 1) (gt (int .Values.collector.ingest.replicas) 0) }}yes{{ end }}
{{- end }}

{{- /* How sensors show who they are is the collector's setting; both sides follow it. Empty = no. */ -}}
{{- define "apidae.usesTokens" -}}
{{ if has (.Values.collector.settings.sensor_auth | default "auto") (list "token" "any") }}yes{{ end }}
{{- end }}

{{- define "apidae.usesCertificates" -}}
{{ if ne (.Values.collector.settings.sensor_auth | default "auto") "token" }}yes{{ end }}
{{- end }}

{{- /* A dict as TOML. */ -}}
{{- define "apidae.toml" -}}
{{- range $name, $value := . }}
{{ $name }} = {{ include "apidae.tomlValue" $value }}
{{- end }}
{{- end }}

{{- /* Helm reads every number as a float, and 67108864 must not become 6.7108864e+07. */ -}}
{{- define "apidae.tomlValue" -}}
{{- if kindIs "map" . -}}
{ {{- range $place, $name := keys . | sortAlpha }}{{ if $place }}, {{ end }}{{ $name }} = {{ include "apidae.tomlValue" (get $ $name) }}{{ end -}} }
{{- else if kindIs "slice" . -}}
[{{ range $place, $one := . }}{{ if $place }}, {{ end }}{{ include "apidae.tomlValue" $one }}{{ end }}]
{{- else if and (kindIs "float64" .) (eq . (floor .)) -}}
{{ int64 . }}
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}

{{- /* A secret is {name, key} in the values. The program reads it from a variable: (list value "APIDAE_SECRET") gives {"value": ...} with
the names of variables in place of secrets, and secretVariables gives the variables. */ -}}
{{- define "apidae.placeSecrets" -}}
{{- $value := index . 0 }}
{{- $path := index . 1 }}
{{- if and (kindIs "map" $value) (hasKey $value "name") (hasKey $value "key") }}
{{- $value = dict "environment" $path }}
{{- else if kindIs "map" $value }}
{{- $placed := dict }}
{{- range $name, $one := $value }}
{{- $_ := set $placed $name (include "apidae.placeSecrets" (list $one (printf "%s_%s" $path (upper $name))) | fromJson).value }}
{{- end }}
{{- $value = $placed }}
{{- else if kindIs "slice" $value }}
{{- $placed := list }}
{{- range $place, $one := $value }}
{{- $placed = append $placed (include "apidae.placeSecrets" (list $one (printf "%s_%d" $path $place)) | fromJson).value }}
{{- end }}
{{- $value = $placed }}
{{- end }}
{{- dict "value" $value | toJson }}
{{- end }}

{{- define "apidae.secretVariables" -}}
{{- $value := index . 0 }}
{{- $path := index . 1 }}
{{- if and (kindIs "map" $value) (hasKey $value "name") (hasKey $value "key") }}
- name: {{ $path }}
  valueFrom: {secretKeyRef: {name: {{ $value.name | quote }}, key: {{ $value.key | quote }}}}
{{- else if kindIs "map" $value }}
{{- range $name, $one := $value }}{{ include "apidae.secretVariables" (list $one (printf "%s_%s" $path (upper $name))) }}{{ end }}
{{- else if kindIs "slice" $value }}
{{- range $place, $one := $value }}{{ include "apidae.secretVariables" (list $one (printf "%s_%d" $path $place)) }}{{ end }}
{{- end }}
{{- end }}

{{- /* The port of HOST:PORT. */ -}}
{{- define "apidae.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end }}
