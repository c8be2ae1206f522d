{{- define "itechsmart.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "itechsmart.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "itechsmart.name" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- define "itechsmart.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: manager
{{- end }}

{{- define "itechsmart.labels" -}}
{{ include "itechsmart.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: itechsmart
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The manager's rules as config/rbac/role.yaml has them, cut by scope: "cluster" keeps the resources that no
namespaced Role can grant, "namespace" the others. What only a manager of all namespaces needs is in neither: it binds
the products to the right to have tokens reviewed, and must hold that right to do so. */ -}}
{{- define "itechsmart.rules" -}}
{{- $cluster := list "namespaces" "nodes" "persistentvolumes" "storageclasses" "customresourcedefinitions" "priorityclasses" "subjectaccessreviews" }}
{{- $everywhere := list "tokenreviews" "clusterrolebindings" }}
{{- $scope := .scope }}
{{- $rules := list }}
{{- range (.root.Files.Get "files/role.yaml" | fromYaml).rules }}
  {{- $keep := list }}
  {{- range .resources }}
    {{- if and (not (has . $everywhere)) (eq (has (splitList "/" . | first) $cluster) (eq $scope "cluster")) }}{{ $keep = append $keep . }}{{ end }}
  {{- end }}
  {{- if $keep }}{{ $rules = append $rules (merge (dict "resources" $keep) (omit . "resources")) }}{{ end }}
{{- end }}
{{- toYaml $rules }}
{{- end }}
