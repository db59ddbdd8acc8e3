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

{{- define "adflux.environment" -}}
- {name: RUST_LOG, value: {{ .root.Values.log | quote }}}
- {name: DATABASE_URL_FILE, value: /run/adflux/database/url}
{{- if .services }}
- {name: KAFKA_BROKERS, value: {{ required "kafka.brokers: the brokers, host:port" .root.Values.kafka.brokers | quote }}}
- {name: ADFLUX_TOPIC, value: {{ .root.Values.kafka.topic | quote }}}
{{- if .root.Values.kafka.propertiesSecret.name }}
- {name: ADFLUX_KAFKA_PROPERTIES_FILE, value: /run/adflux/kafka/properties}
{{- end }}
{{- end }}
{{- if and .redis .root.Values.redis.name }}
- {name: REDIS_URL_FILE, value: /run/adflux/redis/url}
{{- end }}
{{- end -}}

{{- define "adflux.mounts" -}}
- {name: database, mountPath: /run/adflux/database, readOnly: true}
{{- if and .services .root.Values.kafka.propertiesSecret.name }}
- {name: kafka, mountPath: /run/adflux/kafka, readOnly: true}
{{- end }}
{{- if and .redis .root.Values.redis.name }}
- {name: redis, mountPath: /run/adflux/redis, readOnly: true}
{{- end }}
{{- end -}}

{{- define "adflux.volumes" -}}
{{- $database := include "adflux.database" . | fromJson -}}
- name: database
  secret: {secretName: {{ $database.name }}, defaultMode: 0440, items: [{key: {{ $database.key }}, path: url}]}
{{- with .root.Values.kafka.propertiesSecret }}
{{- if and $.services .name }}
- name: kafka
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: properties}]}
{{- end }}
{{- end }}
{{- with .root.Values.redis }}
{{- if and $.redis .name }}
- name: redis
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: url}]}
{{- end }}
{{- end }}
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

{{/* Pods of one kind on nodes of their own, as far as there are any. */}}
{{- define "adflux.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "adflux.selector" . | nindent 8 }}
{{- end -}}
