{{- /* The Pod of a collector: (dict "root" . "part" PART). PART is `collector`, or `ingest` for Pods that only take what sensors send. Their
port for health and metrics has another name, so that the Service sends nobody there who wants the API. */ -}}
{{- define "apidae.collectorPod" -}}
{{- $root := .root }}
{{- $part := .part }}
{{- $settings := include "apidae.collectorSettings" $root | fromJson }}
{{- $collector := $root.Values.collector }}
{{- $authority := include "apidae.authority" $root | fromJson }}
{{- $ingests := gt (int $collector.ingest.replicas) 0 }}
{{- $https := eq $part "ingest" | ternary "health" "https" }}
{{- $resources := eq $part "ingest" | ternary $collector.ingest.resources $collector.resources }}
metadata:
  labels:
    {{- include "apidae.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $part }}
    apidae/collector: "true"
    {{- with $collector.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # Settings are read at the start: other settings, another Pod.
    apidae/settings: {{ printf "%s%s" (toJson $settings) $collector.alertTemplate | sha256sum | trunc 16 | quote }}
    {{- with $collector.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "apidae.name" $root }}-collector
  # Variables of Services in this namespace would look like settings (APIDAE_COLLECTOR_PORT), and unknown ones are errors.
  enableServiceLinks: false
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $collector.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    {{- if not $root.Values.openshift.enabled }}
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    {{- end }}
    # Not file by file at each start: the volume may be large.
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  # Time to write what is acknowledged from the log into the store.
  terminationGracePeriodSeconds: 60
  containers:
    - name: collector
      image: {{ include "apidae.image" (list $root "collector") | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [collector]
      env:
        - name: APIDAE_COLLECTOR_CONFIG
          value: /etc/apidae/config/collector.toml
        # For `apidae get endpoints` and the others inside this container.
        - name: APIDAE_URL
          value: https://localhost:{{ include "apidae.port" $settings.http_listen }}
        - name: APIDAE_TOKEN_FILE
          value: /etc/apidae/tokens/api-token
        - name: APIDAE_CA_FILE
          value: {{ include "apidae.trusted" $root }}
        {{- if eq $part "ingest" }}
        - name: APIDAE_COLLECTOR_ROLES
          value: ingest
        {{- end }}
        {{- with include "apidae.secretVariables" (list $settings "APIDAE_SECRET") | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      ports:
        {{- if or (eq $part "ingest") (not $ingests) }}
        - {name: grpc, containerPort: {{ include "apidae.port" $settings.grpc_listen }}}
        {{- end }}
        - {name: {{ $https }}, containerPort: {{ include "apidae.port" $settings.http_listen }}}
      # One probe that waits, since each that fails is a Warning event. A store of many GB replays its log first.
      startupProbe:
        exec: {command: [sh, -c, "until /opt/apidae/bin/python -m collector.server.probe 2>/dev/null; do sleep 1; done"]}
        initialDelaySeconds: 3
        timeoutSeconds: 300
        failureThreshold: 1
      readinessProbe:
        httpGet: {path: /readyz, port: {{ $https }}, scheme: HTTPS}
        periodSeconds: 5
        timeoutSeconds: 5
      livenessProbe:
        httpGet: {path: /healthz, port: {{ $https }}, scheme: HTTPS}
        periodSeconds: 10
        timeoutSeconds: 5
      securityContext:
        privileged: false
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      resources: {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: {{ $settings.data_dir }}}
        - {name: config, mountPath: /etc/apidae/config, readOnly: true}
        - {name: tokens, mountPath: /etc/apidae/tokens, readOnly: true}
        {{- if $root.Values.tls.existingSecret }}
        - {name: tls, mountPath: /etc/apidae/tls, readOnly: true}
        {{- end }}
        {{- if $authority.secret }}
        - {name: authority, mountPath: /etc/apidae/authority, readOnly: true}
        {{- end }}
        {{- if $collector.stateKey.name }}
        - {name: state-key, mountPath: /etc/apidae/state, readOnly: true}
        {{- end }}
        {{- if $collector.otherClusters }}
        - {name: clusters, mountPath: /etc/apidae/clusters, readOnly: true}
        {{- end }}
        {{- if $collector.specsConfigMap }}
        - {name: specs, mountPath: /etc/apidae/specs, readOnly: true}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: config
      configMap: {name: {{ include "apidae.name" $root }}-collector}
    - name: tokens
      secret: {secretName: {{ include "apidae.tokens" $root }}, defaultMode: 0440}
    {{- with $root.Values.tls.existingSecret }}
    - name: tls
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
    {{- if $authority.secret }}
    - name: authority
      secret:
        secretName: {{ $authority.secret }}
        defaultMode: 0440
        items: [{key: {{ $authority.certificate }}, path: ca.crt}, {key: {{ $authority.key }}, path: ca.key}]
    {{- end }}
    {{- if $collector.stateKey.name }}
    - name: state-key
      secret:
        secretName: {{ $collector.stateKey.name | quote }}
        defaultMode: 0440
        items: [{key: {{ $collector.stateKey.key | quote }}, path: state.key}]
    {{- end }}
    {{- with $collector.otherClusters }}
    - name: clusters
      projected:
        defaultMode: 0440
        sources:
          {{- range $cluster, $secret := . }}
          - secret:
              name: {{ $secret.name | quote }}
              items: [{key: {{ $secret.key | quote }}, path: {{ $cluster | quote }}}]
          {{- end }}
    {{- end }}
    {{- with $collector.specsConfigMap }}
    - name: specs
      configMap: {name: {{ . | quote }}}
    {{- end }}
    - name: tmp
      # Inserts go through files here.
      emptyDir: {medium: Memory, sizeLimit: 256Mi}
    {{- if eq $part "ingest" }}
    # All that has to last is in the log.
    - name: data
      emptyDir: {}
    {{- end }}
  {{- with $collector.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $collector.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $collector.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml $collector.topologySpreadConstraints | nindent 4 }}
  {{- else if include "apidae.isShared" $root }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "apidae.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $part }}
  {{- end }}
  {{- with $collector.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
