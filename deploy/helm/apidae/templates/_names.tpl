{{- define "apidae.name" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "apidae.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "apidae.labels" -}}
{{ include "apidae.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: apidae
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* The image of one side: (list $ "sensor"). */ -}}
{{- define "apidae.image" -}}
{{- $root := index . 0 }}{{ $side := index . 1 }}
{{- with index $root.Values $side "image" }}{{ . }}{{ else -}}
{{ required "image.repository is not set: build the images (images/README.md), push them, and set image.repository=registry.example/team/apidae" $root.Values.image.repository }}-{{ $side }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* Rights that the sensor needs besides those of the values, to put the agent into JVMs of other Pods. */ -}}
{{- define "apidae.capabilities" -}}
{{ (.Values.sensor.javaAttach | empty | ternary (list) (list "SYS_CHROOT" "SETUID" "SETGID") | concat .Values.sensor.capabilities | uniq) | toJson }}
{{- end }}

{{- /* Probes go into single processes by their number, which the kernel takes as one of the sensor's namespace. */ -}}
{{- define "apidae.hostPID" -}}
{{- $isReadingTls := ne (toString (include "apidae.sensorSettings" . | fromJson).read_tls) "off" -}}
{{ or .Values.sensor.hostPID $isReadingTls (not (empty .Values.sensor.javaAttach)) }}
{{- end }}

{{- define "apidae.tokens" -}}
{{ .Values.auth.existingSecret | default (printf "%s-tokens" (include "apidae.name" .)) }}
{{- end }}

{{- /* The Secret with the authority of all certificates, and the names of certificate and key in it; empty: the collector makes its own. */ -}}
{{- define "apidae.authority" -}}
{{- $own := printf "%s-authority" (include "apidae.name" .) }}
{{- if .Values.tls.existingAuthority }}
{{- dict "secret" .Values.tls.existingAuthority "certificate" "ca.crt" "key" "ca.key" | toJson }}
{{- else if .Values.tls.existingSecret }}
{{- dict "secret" "" | toJson }}
{{- else if eq .Values.tls.source "certManager" }}
{{- dict "secret" $own "certificate" "tls.crt" "key" "tls.key" | toJson }}
{{- else }}
{{- dict "secret" $own "certificate" "ca.crt" "key" "ca.key" | toJson }}
{{- end }}
{{- end }}

{{- /* The Secret with the authority that the chart's Job makes; empty where it comes from elsewhere. */ -}}
{{- define "apidae.ownAuthority" -}}
{{- if and (eq .Values.tls.source "chart") (not .Values.tls.existingSecret) (not .Values.tls.existingAuthority) -}}
{{ include "apidae.name" . }}-authority
{{- end }}
{{- end }}

{{- /* Annotations of what runs before the other objects, by its order; it is deleted afterwards. Argo CD knows these too. */ -}}
{{- define "apidae.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- /* Where in both containers the certificate lies by which the collector is known. */ -}}
{{- define "apidae.trusted" -}}
/etc/apidae/{{ empty .Values.tls.existingSecret | ternary "authority" "tls" }}/ca.crt
{{- end }}

{{- define "apidae.collectorHost" -}}
{{ include "apidae.name" . }}-collector.{{ .Release.Namespace }}.svc
{{- end }}

{{- /* Names in the collector's certificate, as a JSON list. */ -}}
{{- define "apidae.certificateNames" -}}
{{- $service := printf "%s-collector" (include "apidae.name" .) }}
{{- $names := list (include "apidae.collectorHost" .) $service (printf "%s.%s" $service .Release.Namespace) "localhost" }}
{{- $names = concat $names .Values.tls.extraNames }}
{{- if .Values.ingress.enabled }}{{ $names = append $names .Values.ingress.host }}{{ end }}
{{- if .Values.gateway.enabled }}{{ $names = concat $names .Values.gateway.hostnames }}{{ end }}
{{- $names | uniq | toJson }}
{{- end }}
