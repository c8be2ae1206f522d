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

{{- define "itechsmart.image" -}}
{{- index .root.Values.images.overrides .program | default (printf "%s/%s:%s" .root.Values.images.registry .program (.root.Values.images.tag | default .root.Chart.AppVersion)) -}}
{{- end }}

{{- /* The name of a ClusterRole in files/rbac, with the release's name instead of the prefix. */ -}}
{{- define "itechsmart.roleName" -}}
{{- regexReplaceAll "^itechsmart" .role (include "itechsmart.name" .root) -}}
{{- end }}

{{- /* The rules of a ClusterRole in files/rbac, by scope: "cluster" returns those on resources that no namespaced Role can
grant, "namespace" the others, "all" both. ClusterRoles that a rule names get the release's name. */ -}}
{{- define "itechsmart.rules" -}}
{{- $cluster := list "namespaces" "nodes" "persistentvolumes" "storageclasses" "customresourcedefinitions" "priorityclasses" "subjectaccessreviews" "clusterrolebindings" }}
{{- $root := .root }}
{{- $scope := .scope }}
{{- $rules := list }}
{{- range .role.rules }}
  {{- $resources := list }}
  {{- range .resources }}
    {{- if or (eq $scope "all") (eq (has (splitList "/" . | first) $cluster) (eq $scope "cluster")) }}{{ $resources = append $resources . }}{{ end }}
  {{- end }}
  {{- if $resources }}
    {{- $rule := merge (dict "resources" $resources) (omit . "resources") }}
    {{- if and .resourceNames (has "rbac.authorization.k8s.io" .apiGroups) }}
      {{- $names := list }}
      {{- range .resourceNames }}{{ $names = append $names (include "itechsmart.roleName" (dict "root" $root "role" .)) }}{{ end }}
      {{- $_ := set $rule "resourceNames" $names }}
    {{- end }}
    {{- $rules = append $rules $rule }}
  {{- end }}
{{- end }}
{{- toYaml $rules }}
{{- end }}
