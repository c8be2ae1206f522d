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
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

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
	args = append([]string{"template", "itechsmart", "charts/itechsmart", "--namespace", "itechsmart-system"}, args...)
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

// variants are the renderings that the other tests look at.
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
				t.Errorf("%s differs at %s; when it is meant, run go test ./test/arch -run TestChartGolden -update", golden, firstDifference(got, want))
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

// manifests are all that we install: every rendering of the chart, and the kustomization.
func manifests(t *testing.T) map[string][]unstructured.Unstructured {
	t.Helper()
	out := map[string][]unstructured.Unstructured{}
	for name, args := range variants {
		out["chart "+name] = objects(t, render(t, args...))
	}
	built, stderr, err := tool(t, "kustomize", "build", "config/default")
	if err != nil {
		t.Fatalf("kustomize: %v\n%s", err, stderr)
	}
	out["kustomize default"] = objects(t, built)
	return out
}

func convert[T any](t *testing.T, obj unstructured.Unstructured) T {
	t.Helper()
	var out T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(obj.Object, &out, true); err != nil {
		t.Fatalf("%s %s: %v", obj.GetKind(), obj.GetName(), err)
	}
	return out
}

func TestRBACHasNoWildcard(t *testing.T) {
	for name, list := range manifests(t) {
		roles := 0
		for _, obj := range list {
			if !strings.HasSuffix(obj.GetKind(), "Role") {
				continue
			}
			roles++
			for _, rule := range convert[rbacv1.ClusterRole](t, obj).Rules {
				if slices.Contains(slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs, rule.NonResourceURLs), "*") {
					t.Errorf("%s: %s %s has a wildcard: %v", name, obj.GetKind(), obj.GetName(), rule)
				}
				if slices.ContainsFunc(rule.Verbs, func(verb string) bool { return verb == "escalate" || verb == "bind" || verb == "impersonate" }) {
					t.Errorf("%s: %s %s may raise its own rights: %v", name, obj.GetKind(), obj.GetName(), rule)
				}
			}
		}
		if roles == 0 {
			t.Errorf("%s: no role at all", name)
		}
	}
}

// TestNamespacedRights: with a list of namespaces no right on Secrets reaches beyond it.
func TestNamespacedRights(t *testing.T) {
	namespaces := map[string]bool{}
	for _, obj := range objects(t, render(t, variants["namespaced"]...)) {
		if !strings.HasSuffix(obj.GetKind(), "Role") || !strings.HasSuffix(obj.GetName(), "-manager") {
			continue
		}
		for _, rule := range convert[rbacv1.ClusterRole](t, obj).Rules {
			if !slices.Contains(rule.Resources, "secrets") {
				continue
			}
			if obj.GetKind() == "ClusterRole" {
				t.Errorf("ClusterRole %s grants Secrets everywhere: %v", obj.GetName(), rule)
			}
			namespaces[obj.GetNamespace()] = true
		}
	}
	if !namespaces["team-a"] || !namespaces["team-b"] || len(namespaces) != 2 {
		t.Errorf("Roles for Secrets are in %v, want team-a and team-b", namespaces)
	}
}

// TestPodsAreRestricted: what we install satisfies Pod Security restricted, on a read-only root.
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
			t.Errorf("CRD %s would go with the release, and all its resources with it", obj.GetName())
		}
	}
	if found != len(source) {
		t.Errorf("the chart renders %d CRDs, config/crd has %d; run make chart", found, len(source))
	}
}

func TestChartRefusesWrongValues(t *testing.T) {
	for _, wrong := range []string{"replica=2", "replicas=-1", "logLevel=loud", "image.tags=x", "namespaces={Not_A_Namespace}", "backends.images.mysql=x", "products.vault.image.tags=x", "maxConcurrentReconciles=0", "metrics.port=80"} {
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
