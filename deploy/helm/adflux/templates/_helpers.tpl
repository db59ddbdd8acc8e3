{{- define "adflux.name" -}}
{{- $name := .Chart.Name -}}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "adflux.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "adflux.labels" -}}
{{ include "adflux.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "adflux.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "adflux.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "adflux.name" .) }}
{{- end -}}

{{/* The secret with the URL of the database for a component: its own, or else the owner's. */}}
{{- define "adflux.database" -}}
{{- $owner := .root.Values.database.owner -}}
{{- $own := get .root.Values.database .component | default dict -}}
{{- $secret := ternary $own $owner (not (empty $own.name)) -}}
{{- toJson (dict "name" (required "database.owner.name: the secret with PostgreSQL's URL" $secret.name) "key" ($secret.key | default "url")) -}}
{{- end -}}

{{/* What each pod has in common: it writes to no file, asks for no privilege, and knows nothing of the cluster. */}}
{{- define "adflux.pod" -}}
{{- /* What runs before an installation runs before the chart's own account exists; it asks the cluster nothing. */}}
{{- if or (ne .component "migrate") .root.Values.serviceAccount.name }}
serviceAccountName: {{ include "adflux.serviceAccount" .root }}
{{- end }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "adflux.container" -}}
image: {{ include "adflux.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* The certificates of a service as a volume of files, for those of its settings that begin with a prefix; nothing if there are none. */}}
{{- define "adflux.certificates" -}}
{{- $tls := .tls -}}
{{- if and $tls.secret $tls.configMap }}{{ fail (printf "%s.tls: a secret or a configMap, not both" .name) }}{{ end -}}
{{- if or $tls.secret $tls.configMap -}}
{{- $items := list -}}
{{- range $part := list "ca" "certificate" "key" -}}
{{- with get $tls $part -}}
{{- $env := ternary (printf "%s_%s_FILE" $.prefix (upper $part)) "" (not (empty $.prefix)) -}}
{{- $items = append $items (dict "key" . "path" (printf "%s.pem" $part) "env" $env) -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "name" (printf "%s-tls" .name) "secret" $tls.secret "configMap" $tls.configMap "items" $items) -}}
{{- end -}}
{{- end -}}

{{/* What a component reads from files: volumes, each with its items, and the settings that name these. */}}
{{- define "adflux.files" -}}
{{- $values := .root.Values -}}
{{- $database := include "adflux.database" . | fromJson -}}
{{- $secrets := list (dict "volume" "database" "of" $database "path" "url" "env" "DATABASE_URL_FILE") -}}
{{- if eq .component "serve" -}}
{{- $secrets = append $secrets (dict "volume" "shards" "of" $values.shard.all "path" "shards" "env" "ADFLUX_SHARDS_FILE") -}}
{{- end -}}
{{- $certificates := list (dict "name" "database" "tls" $values.database.tls "prefix" "") -}}
{{- if .services -}}
{{- $kafka := $values.kafka -}}
{{- $secrets = append $secrets (dict "volume" "kafka" "of" $kafka.propertiesSecret "path" "properties" "env" "ADFLUX_KAFKA_PROPERTIES_FILE") -}}
{{- $secrets = append $secrets (dict "volume" "kafka-password" "of" $kafka.passwordSecret "path" "password" "env" "KAFKA_PASSWORD_FILE") -}}
{{- $secrets = append $secrets (dict "volume" "kafka-key-password" "of" $kafka.keyPasswordSecret "path" "password" "env" "KAFKA_KEY_PASSWORD_FILE") -}}
{{- $certificates = append $certificates (dict "name" "kafka" "tls" $kafka.tls "prefix" "KAFKA") -}}
{{- if $values.schemaRegistry.url -}}
{{- $registry := $values.schemaRegistry -}}
{{- $secrets = append $secrets (dict "volume" "registry-password" "of" $registry.passwordSecret "path" "password" "env" "SCHEMA_REGISTRY_PASSWORD_FILE") -}}
{{- $secrets = append $secrets (dict "volume" "registry-token" "of" $registry.tokenSecret "path" "token" "env" "SCHEMA_REGISTRY_TOKEN_FILE") -}}
{{- $certificates = append $certificates (dict "name" "registry" "tls" $registry.tls "prefix" "SCHEMA_REGISTRY") -}}
{{- end -}}
{{- end -}}
{{- if .redis -}}
{{- $secrets = append $secrets (dict "volume" "redis" "of" $values.redis "path" "url" "env" "REDIS_URL_FILE") -}}
{{- if $values.redis.name -}}
{{- $certificates = append $certificates (dict "name" "redis" "tls" $values.redis.tls "prefix" "REDIS") -}}
{{- end -}}
{{- end -}}
{{- $files := list -}}
{{- range $secrets -}}
{{- if .of.name -}}
{{- $files = append $files (dict "name" .volume "secret" .of.name "items" (list (dict "key" .of.key "path" .path "env" .env))) -}}
{{- end -}}
{{- end -}}
{{- range $certificates -}}
{{- with include "adflux.certificates" . -}}
{{- $files = append $files (fromJson .) -}}
{{- end -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{- define "adflux.environment" -}}
- {name: RUST_LOG, value: {{ .root.Values.log | quote }}}
{{- if .services }}
{{- with .root.Values.kafka }}
- {name: KAFKA_BROKERS, value: {{ required "kafka.brokers: the brokers, host:port" .brokers | quote }}}
- {name: ADFLUX_TOPIC, value: {{ .topic | quote }}}
{{- range $name, $value := dict "KAFKA_SECURITY" .security "KAFKA_MECHANISM" .mechanism "KAFKA_USERNAME" .username "KAFKA_TOKEN_URL" .tokenUrl "KAFKA_TOKEN_SCOPE" .tokenScope }}
{{- with $value }}
- {name: {{ $name }}, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.schemaRegistry }}
{{- if .url }}
- {name: SCHEMA_REGISTRY_URL, value: {{ .url | quote }}}
{{- with .username }}
- {name: SCHEMA_REGISTRY_USERNAME, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $file := include "adflux.files" . | fromJsonArray }}
{{- range .items }}
{{- if .env }}
- {name: {{ .env }}, value: /run/adflux/{{ $file.name }}/{{ .path }}}
{{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.env }}{{ toYaml . | nindent 0 }}{{ end }}
{{- end -}}

{{- define "adflux.mounts" -}}
{{- range include "adflux.files" . | fromJsonArray }}
- {name: {{ .name }}, mountPath: /run/adflux/{{ .name }}, readOnly: true}
{{- end }}
{{- with .root.Values.volumeMounts }}{{ toYaml . | nindent 0 }}{{ end }}
{{- end -}}

{{- define "adflux.volumes" -}}
{{- range include "adflux.files" . | fromJsonArray }}
- name: {{ .name }}
  {{- if .secret }}
  secret:
    secretName: {{ .secret }}
  {{- else }}
  configMap:
    name: {{ .configMap }}
  {{- end }}
    defaultMode: 0440
    items:
      {{- range .items }}
      - {key: {{ .key | quote }}, path: {{ .path }}}
      {{- end }}
{{- end }}
{{- with .root.Values.volumes }}{{ toYaml . | nindent 0 }}{{ end }}
{{- end -}}

{{/* Alive: it answers. Ready: none of its partitions stands still, or it can answer questions. */}}
{{- define "adflux.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end -}}

{{/* Pods of one kind on nodes of their own, as far as there are any; or as it was asked for. */}}
{{- define "adflux.spread" -}}
topologySpreadConstraints:
  {{- with (get .root.Values .component).topologySpreadConstraints }}
  {{- range . }}
  - {{ toYaml (merge (dict "labelSelector" (dict "matchLabels" (include "adflux.selector" $ | fromYaml))) .) | nindent 4 | trim }}
  {{- end }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "adflux.selector" . | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* The annotations of a component's pods: everybody's, and its own. */}}
{{- define "adflux.annotations" -}}
{{- with merge (dict) (get .root.Values .component).podAnnotations .root.Values.podAnnotations }}{{ toYaml . }}{{ end -}}
{{- end -}}
