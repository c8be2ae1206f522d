// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// tool runs a pinned tool and returns its standard output and its standard error.
func tool(t *testing.T, name string, args ...string) (stdout []byte, stderr string, err error) {
	t.Helper()
	path, lookErr := filepath.Abs(filepath.Join(root, ".local", "bin", name))
	if lookErr != nil {
		t.Fatal(lookErr)
	}
	if _, statErr := os.Stat(path); statErr != nil {
		t.Fatalf("%s is missing: run `make tools`", name)
	}
	var out, errOut bytes.Buffer
	command := exec.Command(path, args...)
	command.Dir, command.Stdout, command.Stderr = root, &out, &errOut
	err = command.Run()
	return out.Bytes(), errOut.String(), err
}

func render(t *testing.T, args ...string) []byte {
	t.Helper()
	return renderAs(t, "itechsmart", args...)
}

// renderAs renders a release of another name.
func renderAs(t *testing.T, release string, args ...string) []byte {
	t.Helper()
	args = append([]string{"template", release, "charts/itechsmart", "--namespace", "itechsmart-system"}, args...)
	out, stderr, err := tool(t, "helm", args...)
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, stderr)
	}
	return out
}

func objects(t *testing.T, manifest []byte) []unstructured.Unstructured {
	t.Helper()
	var list []unstructured.Unstructured
	for _, document := range bytes.Split(manifest, []byte("\n---")) {
		var obj unstructured.Unstructured
		if err := yaml.Unmarshal(document, &obj.Object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if len(obj.Object) > 0 {
			list = append(list, obj)
		}
	}
	if len(list) == 0 {
		t.Fatal("nothing rendered")
	}
	return list
}

// variants are the renderings that the other tests check.
var variants = map[string][]string{
	"default":    {"--set", "crds.install=false"},
	"ha":         {"--set", "crds.install=false", "--values", "charts/itechsmart/values-ha.yaml", "--set", "metrics.serviceMonitor.enabled=true"},
	"namespaced": {"--set", "crds.install=false", "--set", "namespaces={team-a,team-b}"},
}

func TestChartGolden(t *testing.T) {
	for name, args := range variants {
		t.Run(name, func(t *testing.T) {
			got := render(t, args...)
			golden := filepath.Join("testdata", "chart-"+name+".yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs at %s; if that is intended, run go test ./test/arch -run TestChartGolden -update", golden, firstDifference(got, want))
			}
		})
	}
}

func firstDifference(got, want []byte) string {
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d:\n got: %s\nwant: %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("its length: %d lines, want %d", len(g), len(w))
}

// manifests returns everything that we install: every rendering of the chart, and the kustomization.
func manifests(t *testing.T) map[string][]unstructured.Unstructured {
	t.Helper()
	out := map[string][]unstructured.Unstructured{"kustomize default": kustomized(t)}
	for name, args := range variants {
		out["chart "+name] = objects(t, render(t, args...))
	}
	return out
}

func kustomized(t *testing.T) []unstructured.Unstructured {
	t.Helper()
	built, stderr, err := tool(t, "kustomize", "build", "config/default")
	if err != nil {
		t.Fatalf("kustomize: %v\n%s", err, stderr)
	}
	return objects(t, built)
}

func convert[T any](t *testing.T, obj unstructured.Unstructured) T {
	t.Helper()
	var out T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(obj.Object, &out, true); err != nil {
		t.Fatalf("%s %s: %v", obj.GetKind(), obj.GetName(), err)
	}
	return out
}

// TestPodsAreRestricted checks that installed Pods satisfy Pod Security restricted, with a read-only root.
func TestPodsAreRestricted(t *testing.T) {
	for name, list := range manifests(t) {
		pods := 0
		for _, obj := range list {
			if obj.GetKind() == "Deployment" {
				pods++
				for _, violation := range restricted(convert[appsv1.Deployment](t, obj).Spec.Template.Spec) {
					t.Errorf("%s: Deployment %s: %s", name, obj.GetName(), violation)
				}
			}
		}
		if pods == 0 {
			t.Errorf("%s: no Deployment", name)
		}
	}
}

func restricted(pod corev1.PodSpec) []string {
	var out []string
	demand := func(ok bool, what string) {
		if !ok {
			out = append(out, what)
		}
	}
	security := pod.SecurityContext
	demand(!pod.HostNetwork && !pod.HostPID && !pod.HostIPC, "shares a host namespace")
	demand(security != nil && security.RunAsNonRoot != nil && *security.RunAsNonRoot, "runAsNonRoot is not true")
	demand(security != nil && security.RunAsUser != nil && *security.RunAsUser == 65532, "runAsUser is not 65532")
	demand(security != nil && security.SeccompProfile != nil && security.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "no seccomp profile RuntimeDefault")
	for _, volume := range pod.Volumes {
		demand(volume.HostPath == nil, "volume "+volume.Name+" is a hostPath")
	}
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		own := container.SecurityContext
		if own == nil {
			out = append(out, container.Name+" has no securityContext")
			continue
		}
		demand(own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation, container.Name+": allowPrivilegeEscalation is not false")
		demand(own.ReadOnlyRootFilesystem != nil && *own.ReadOnlyRootFilesystem, container.Name+": its root is writable")
		demand(own.Capabilities != nil && slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(own.Capabilities.Add) == 0, container.Name+": does not drop all capabilities")
		demand(container.Resources.Limits.Memory().Sign() > 0 && container.Resources.Requests.Cpu().Sign() > 0, container.Name+": no cpu request or no memory limit")
		demand(container.LivenessProbe != nil && container.ReadinessProbe != nil, container.Name+": a probe is missing")
	}
	return out
}

func TestChartCRDsUpgradeAndStay(t *testing.T) {
	source, err := filepath.Glob(filepath.Join(root, "config", "crd", "*itechsmart.dev_*.yaml"))
	if err != nil || len(source) == 0 {
		t.Fatalf("no CRDs in config/crd: %v", err)
	}
	found := 0
	for _, obj := range objects(t, render(t)) {
		if obj.GetKind() != "CustomResourceDefinition" {
			continue
		}
		found++
		if obj.GetAnnotations()["helm.sh/resource-policy"] != "keep" {
			t.Errorf("CRD %s would be deleted with the release, and all its resources with it", obj.GetName())
		}
	}
	if found != len(source) {
		t.Errorf("the chart renders %d CRDs, config/crd has %d; run make chart", found, len(source))
	}
}

func TestChartRefusesWrongValues(t *testing.T) {
	for _, wrong := range []string{"replica=2", "replicas=-1", "logLevel=loud", "images.tags=x", "images.registry=x/", "images.overrides=x", "namespaces={Not_A_Namespace}", "backends.images.mysql=x", "allowPrivateAddresses=maybe", "maxConcurrentReconciles=0", "metrics.port=80"} {
		t.Run(wrong, func(t *testing.T) {
			_, stderr, err := tool(t, "helm", "template", "itechsmart", "charts/itechsmart", "--set", wrong)
			if err == nil {
				t.Fatal("accepted")
			}
			key, _, _ := strings.Cut(wrong, "=")
			last := key[strings.LastIndex(key, ".")+1:]
			if !strings.Contains(stderr, last) {
				t.Errorf("the refusal does not name %s: %s", last, stderr)
			}
		})
	}
}

// TestImageFlags checks that the programs have the manager's own version, and come from the registry in the values.
func TestImageFlags(t *testing.T) {
	var chart struct {
		AppVersion string `json:"appVersion"`
	}
	if err := yaml.Unmarshal(read(t, "charts/itechsmart/Chart.yaml"), &chart); err != nil {
		t.Fatal(err)
	}
	image, args := manager(t, kustomized(t))
	wantArgs(t, args, "--image-registry=docker.io/itechsmart", "--image-tag="+chart.AppVersion)
	if want := "docker.io/itechsmart/manager:" + chart.AppVersion; image != want {
		t.Errorf("kustomize: the manager's image is %s, want %s", image, want)
	}
	image, args = manager(t, objects(t, render(t, variants["default"]...)))
	wantArgs(t, args, "--image-registry=docker.io/itechsmart", "--image-tag="+chart.AppVersion)
	if want := "docker.io/itechsmart/manager:" + chart.AppVersion; image != want {
		t.Errorf("chart: the manager's image is %s, want %s", image, want)
	}
	image, args = manager(t, objects(t, render(t, "--set", "images.registry=example.com/ours,images.tag=v7", "--set", "images.overrides.some-program=example.com/some@sha256:12")))
	wantArgs(t, args, "--image-registry=example.com/ours", "--image-tag=v7", "--image=some-program=example.com/some@sha256:12")
	if image != "example.com/ours/manager:v7" {
		t.Errorf("the manager's image is %s", image)
	}
	image, args = manager(t, objects(t, render(t, "--set", "images.overrides.manager=example.com/boss:1")))
	if image != "example.com/boss:1" || slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--image=") }) {
		t.Errorf("the manager's image is %s, its arguments %v", image, args)
	}
}

// manager returns the image and the arguments of the manager.
func manager(t *testing.T, list []unstructured.Unstructured) (image string, args []string) {
	t.Helper()
	for _, obj := range list {
		if obj.GetKind() == "Deployment" {
			container := convert[appsv1.Deployment](t, obj).Spec.Template.Spec.Containers[0]
			return container.Image, container.Args
		}
	}
	t.Fatal("no Deployment")
	return "", nil
}

func wantArgs(t *testing.T, args []string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !slices.Contains(args, want) {
			t.Errorf("the manager's arguments lack %s: %v", want, args)
		}
	}
}

// TestHealthChecksPatchArgoCD: as a patch of Argo CD's ConfigMap, which names no namespace in its own manifests, the health checks
// leave what is there.
func TestHealthChecksPatchArgoCD(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"kustomization.yaml": []byte("namespace: argocd\nresources: [base.yaml]\npatches: [{path: patch.yaml}]\n"),
		"base.yaml":          []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: argocd-cm}\ndata: {url: https://argocd.example.com}\n"),
		"patch.yaml":         read(t, "config/argocd/argocd-cm.yaml"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	built, stderr, err := tool(t, "kustomize", "build", dir)
	if err != nil {
		t.Fatalf("kustomize: %v\n%s", err, stderr)
	}
	patched := convert[corev1.ConfigMap](t, objects(t, built)[0])
	if patched.Namespace != "argocd" || patched.Data["url"] == "" || len(patched.Data) < 2 {
		t.Errorf("patched: %+v", patched)
	}
}
