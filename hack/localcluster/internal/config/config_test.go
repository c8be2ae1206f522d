// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
)

var testLayout = layout.Layout{Root: "/checkout"}

func TestResolvConf(t *testing.T) {
	tests := []struct {
		name, machine, want string
		forward             bool
	}{
		{name: "missing"},
		{name: "a name server", machine: "# by hand\nnameserver 192.0.2.53\noptions  ndots:2\n", want: "nameserver 192.0.2.53\noptions ndots:2\n", forward: true},
		{name: "loopback only", machine: "nameserver 127.0.0.53\nnameserver ::1\nsearch example.org\n", want: "search example.org\n"},
		{name: "both", machine: "nameserver 127.0.0.1\nnameserver 2001:db8::1\n", want: "nameserver 2001:db8::1\n", forward: true},
		{name: "broken", machine: "nameserver\nnameserver nowhere\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, forward := ResolvConf(tt.machine)
			if got != tt.want || forward != tt.forward {
				t.Errorf("got %q %v, want %q %v", got, forward, tt.want, tt.forward)
			}
		})
	}
}

func TestCorefileForwardsOnlyWithUpstream(t *testing.T) {
	if strings.Contains(Corefile(false), "forward") {
		t.Error("forwards although there is no name server")
	}
	if !strings.Contains(Corefile(true), "forward . /etc/resolv.conf") {
		t.Error("does not forward")
	}
}

func TestContainerd(t *testing.T) {
	got, err := Containerd(testLayout, "pause:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`root = "/checkout/.local/containerd"`, `state = "/checkout/.local/cluster/containerd"`, `sandbox_image = "pause:1"`,
		`restrict_oom_score_adj = true`, `Root = "/checkout/.local/cluster/containerd/runc"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %s", want)
		}
	}
}

func TestStateOfLongRoots(t *testing.T) {
	long := layout.Layout{Root: "/" + strings.Repeat("x", 90)}
	if socket := long.ContainerdSocket(); len(socket)+len(".ttrpc") > 107 || !strings.HasPrefix(socket, "/run/itechsmart-") {
		t.Errorf("socket %s does not fit", socket)
	}
	if other := (layout.Layout{Root: long.Root + "y"}); other.ID() == long.ID() {
		t.Error("two checkouts share an identifier")
	}
}

func TestRenderedFilesParse(t *testing.T) {
	cni, err := CNI(testLayout)
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Plugins []struct{ Type string } }
	if err := json.Unmarshal([]byte(cni), &list); err != nil || len(list.Plugins) != 2 || list.Plugins[0].Type != "bridge" {
		t.Errorf("network list: %v, %+v", err, list)
	}
	for name, render := range map[string]func() (string, error){
		"kubelet":    func() (string, error) { return Kubelet(testLayout, "/itechsmart-x") },
		"kube-proxy": func() (string, error) { return KubeProxy(testLayout) },
	} {
		text, err := render()
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(text), &object); err != nil || object["kind"] == nil {
			t.Errorf("%s: %v, kind %v", name, err, object["kind"])
		}
	}
}

func TestManifests(t *testing.T) {
	text, err := Manifests(testLayout, "addons:1", true)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for part := range strings.SplitSeq(text, "\n---\n") {
		var object struct {
			Kind string
			Data map[string]string
		}
		if err := yaml.Unmarshal([]byte(strings.TrimPrefix(part, "---\n")+"\n"), &object); err != nil {
			t.Fatalf("%v\n%s", err, part)
		}
		kinds[object.Kind]++
		if object.Kind == "ConfigMap" && object.Data["Corefile"] != Corefile(true) {
			t.Errorf("the Corefile was changed by the YAML:\n%s", object.Data["Corefile"])
		}
	}
	if kinds["Deployment"] != 3 || kinds["StorageClass"] != 1 || kinds["APIService"] != 1 {
		t.Errorf("kinds: %v", kinds)
	}
}
