// SPDX-License-Identifier: Apache-2.0

// Package config renders the configuration files of the local cluster's components. It is pure: layout in, text out.
package config

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"

	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
)

// CNIPlugins is the directory of Debian's containernetworking-plugins.
const CNIPlugins = "/usr/lib/cni"

var containerdTemplate = template.Must(template.New("containerd").Parse(`version = 2
root = "{{.Root}}"
state = "{{.State}}"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]

[grpc]
  address = "{{.Socket}}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{{.State}}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{.Pause}}"
  # Without CAP_SYS_RESOURCE no process may lower its OOM score, and every sandbox would fail.
  restrict_oom_score_adj = true
  disable_apparmor = true
  # As containerd 2 does by default: a container without capabilities may listen on port 53 or 80.
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{{.CNIPlugins}}"
    conf_dir = "{{.CNIConf}}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{{.State}}/runc"
        SystemdCgroup = false
`))

// Containerd returns containerd's configuration. pause is the reference of the sandbox image.
func Containerd(l layout.Layout, pause string) (string, error) {
	var b strings.Builder
	err := containerdTemplate.Execute(&b, map[string]string{
		"Root": l.ContainerdRoot(), "State": l.State("containerd"), "Socket": l.ContainerdSocket(), "Pause": pause,
		"CNIPlugins": CNIPlugins, "CNIConf": l.Cluster("cni", "net.d"),
	})
	return b.String(), err
}

// CNI returns the network configuration list: a bridge, addresses from the pod range, host ports.
func CNI(l layout.Layout) (string, error) {
	b, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0",
		"name":       l.ID(),
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": layout.Bridge, "isGateway": true, "hairpinMode": true, "ipMasq": false,
				"ipam": map[string]any{
					"type": "host-local", "dataDir": l.Cluster("cni", "addresses"),
					"ranges": [][]map[string]string{{{
						"subnet": layout.PodCIDR, "gateway": layout.NodeIP, "rangeStart": layout.PodRangeStart,
					}}},
					"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
				},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}, "", "  ")
	return string(b) + "\n", err
}

// Kubelet returns the kubelet's configuration. cgroupRoot is an existing cgroup below which all pods run.
func Kubelet(l layout.Layout, cgroupRoot string) (string, error) {
	return marshal(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": l.PKI("ca.crt")},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"tlsCertFile":              l.PKI("kubelet-serving.crt"),
		"tlsPrivateKeyFile":        l.PKI("kubelet-serving.key"),
		"containerRuntimeEndpoint": "unix://" + l.ContainerdSocket(),
		"podLogsDir":               l.Log("pods"),
		"volumePluginDir":          l.Cluster("volume-plugins"),
		"resolvConf":               l.Config("resolv.conf"),
		"clusterDNS":               []string{layout.DNSIP},
		"clusterDomain":            layout.ClusterDomain,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               cgroupRoot,
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"oomScoreAdj":              0,
		"maxPods":                  250,
		"serializeImagePulls":      false,
		"registerNode":             true,
		// Images come from tarballs and cannot be pulled again: they are never collected.
		"imageGCHighThresholdPercent":            100,
		"imagePullCredentialsVerificationPolicy": "NeverVerify",
		"mergeDefaultEvictionSettings":           false,
		"evictionHard": map[string]string{
			"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%",
			"nodefs.inodesFree": "1%", "imagefs.inodesFree": "1%",
		},
		"runtimeRequestTimeout": "2m",
		"kubeAPIQPS":            100,
		"kubeAPIBurst":          200,
		"registryPullQPS":       0,
	})
}

// KubeProxy returns kube-proxy's configuration: iptables mode, without changes to the machine's conntrack limits.
func KubeProxy(l layout.Layout) (string, error) {
	return marshal(map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"clientConnection":   map[string]any{"kubeconfig": l.PKI("kube-proxy.kubeconfig")},
		"hostnameOverride":   layout.NodeName,
		"bindAddress":        "0.0.0.0",
		"healthzBindAddress": "127.0.0.1:10256",
		"metricsBindAddress": "127.0.0.1:10249",
		"mode":               "iptables",
		"clusterCIDR":        layout.PodCIDR,
		"oomScoreAdj":        0,
		"conntrack": map[string]any{
			"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
		},
		"iptables": map[string]any{"minSyncPeriod": "250ms", "syncPeriod": "30s"},
	})
}

func marshal(v any) (string, error) {
	b, err := yaml.Marshal(v)
	return string(b), err
}

// ResolvConf returns the resolver configuration for pods that use the node's: that of the machine without name servers
// on the loopback interface, which a pod cannot reach. forward reports whether a name server remains.
func ResolvConf(machine string) (text string, forward bool) {
	var b strings.Builder
	for line := range strings.Lines(machine) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		if fields[0] == "nameserver" {
			if len(fields) < 2 {
				continue
			}
			ip := net.ParseIP(fields[1])
			if ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
				continue
			}
			forward = true
		}
		fmt.Fprintln(&b, strings.Join(fields, " "))
	}
	return b.String(), forward
}

// Corefile returns CoreDNS's configuration. Names outside the cluster are forwarded only where there is a name server.
func Corefile(forward bool) string {
	upstream := ""
	if forward {
		upstream = "    forward . /etc/resolv.conf {\n        max_concurrent 1000\n    }\n    cache 30\n"
	}
	return `.:53 {
    errors
    health :8080 {
        lameduck 0s
    }
    ready :8181
    kubernetes ` + layout.ClusterDomain + ` in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
` + upstream + `    loadbalance
}
`
}
