// SPDX-License-Identifier: Apache-2.0

// Package cluster runs the local cluster: it starts its components, waits for them, loads images, and removes everything.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
	"github.com/itechsmart/operator/hack/localcluster/internal/pki"
)

// component is one process of the cluster.
type component struct {
	name string
	path string
	args []string
	// ports lists the ports that it listens on, checked before it starts.
	ports []int
	// url for people; health returns 200 when it works (containerd has a socket instead).
	url, health string
}

// components returns all components in the order in which they start.
func components(l layout.Layout) []component {
	api := fmt.Sprintf("https://127.0.0.1:%d", layout.APIPort)
	etcd := fmt.Sprintf("https://127.0.0.1:%d", layout.EtcdPort)
	return []component{
		{
			name: "etcd", path: l.Bin("etcd"), ports: []int{layout.EtcdPort, layout.EtcdPeerPort, layout.EtcdHealth},
			url: etcd, health: fmt.Sprintf("http://127.0.0.1:%d/readyz", layout.EtcdHealth),
			args: etcdArgs(l, etcd),
		},
		{
			name: "kube-apiserver", path: l.Bin("kube-apiserver"), ports: []int{layout.APIPort},
			url: api, health: api + "/readyz", args: apiserverArgs(l, etcd),
		},
		{
			name: "containerd", path: "/usr/bin/containerd", url: "unix://" + l.ContainerdSocket(),
			args: []string{"--config", l.Config("containerd.toml")},
		},
		{
			name: "kube-controller-manager", path: l.Bin("kube-controller-manager"), ports: []int{10257},
			url: "https://127.0.0.1:10257", health: "https://127.0.0.1:10257/healthz", args: controllerManagerArgs(l),
		},
		{
			name: "kube-scheduler", path: l.Bin("kube-scheduler"), ports: []int{10259},
			url: "https://127.0.0.1:10259", health: "https://127.0.0.1:10259/healthz",
			args: []string{
				"--kubeconfig=" + l.PKI("kube-scheduler.kubeconfig"), "--bind-address=127.0.0.1", "--leader-elect=false",
				"--authentication-kubeconfig=" + l.PKI("kube-scheduler.kubeconfig"),
				"--authorization-kubeconfig=" + l.PKI("kube-scheduler.kubeconfig"),
			},
		},
		{
			name: "kubelet", path: l.Bin("kubelet"), ports: []int{10250, 10248},
			url: "https://" + layout.NodeIP + ":10250", health: "http://127.0.0.1:10248/healthz",
			args: []string{
				"--config=" + l.Config("kubelet.yaml"), "--kubeconfig=" + l.PKI("kubelet.kubeconfig"),
				"--root-dir=" + l.KubeletRoot(), "--cert-dir=" + l.Cluster("pki"),
				"--hostname-override=" + layout.NodeName, "--node-ip=" + layout.NodeIP,
			},
		},
		{
			// Healthy only once the node is registered.
			name: "kube-proxy", path: l.Bin("kube-proxy"), ports: []int{10256, 10249},
			url: "http://127.0.0.1:10256", health: "http://127.0.0.1:10256/healthz",
			args: []string{"--config=" + l.Config("kube-proxy.yaml")},
		},
	}
}

func etcdArgs(l layout.Layout, client string) []string {
	peer := fmt.Sprintf("http://127.0.0.1:%d", layout.EtcdPeerPort)
	return []string{
		"--name=local", "--data-dir=" + l.Cluster("etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=local=" + peer,
		fmt.Sprintf("--listen-metrics-urls=http://127.0.0.1:%d", layout.EtcdHealth),
		"--client-cert-auth=true", "--trusted-ca-file=" + l.PKI("etcd-ca.crt"),
		"--cert-file=" + l.PKI("etcd.crt"), "--key-file=" + l.PKI("etcd.key"),
		// A development cluster does not survive power failures; kill -9 loses nothing that the kernel holds.
		"--unsafe-no-fsync=true", "--log-level=warn", "--auto-compaction-retention=5m", "--quota-backend-bytes=4294967296",
	}
}

func apiserverArgs(l layout.Layout, etcd string) []string {
	return []string{
		"--advertise-address=" + layout.NodeIP, fmt.Sprintf("--secure-port=%d", layout.APIPort),
		"--etcd-servers=" + etcd, "--etcd-cafile=" + l.PKI("etcd-ca.crt"),
		"--etcd-certfile=" + l.PKI("etcd-client.crt"), "--etcd-keyfile=" + l.PKI("etcd-client.key"),
		"--client-ca-file=" + l.PKI("ca.crt"),
		"--tls-cert-file=" + l.PKI("kube-apiserver.crt"), "--tls-private-key-file=" + l.PKI("kube-apiserver.key"),
		"--kubelet-client-certificate=" + l.PKI("kube-apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + l.PKI("kube-apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + l.PKI("ca.crt"),
		// Any other type makes it query a DNS server for the node's name.
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc." + layout.ClusterDomain,
		"--service-account-key-file=" + l.PKI("service-account.pub"),
		"--service-account-signing-key-file=" + l.PKI("service-account.key"),
		"--service-cluster-ip-range=" + layout.ServiceCIDR,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--requestheader-client-ca-file=" + l.PKI("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + l.PKI("front-proxy-client.crt"),
		"--proxy-client-key-file=" + l.PKI("front-proxy-client.key"),
	}
}

func controllerManagerArgs(l layout.Layout) []string {
	kubeconfig := l.PKI("kube-controller-manager.kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true", "--controllers=*",
		"--service-account-private-key-file=" + l.PKI("service-account.key"), "--root-ca-file=" + l.PKI("ca.crt"),
		"--cluster-signing-cert-file=" + l.PKI("ca.crt"), "--cluster-signing-key-file=" + l.PKI("ca.key"),
		"--client-ca-file=" + l.PKI("ca.crt"), "--requestheader-client-ca-file=" + l.PKI("front-proxy-ca.crt"),
		"--allocate-node-cidrs=false", "--service-cluster-ip-range=" + layout.ServiceCIDR,
		"--flex-volume-plugin-dir=" + l.Cluster("volume-plugins"),
	}
}

// authorities of the cluster's certificates.
var authorities = []string{"ca", "front-proxy-ca", "etcd-ca"}

// leaves returns all certificates of the cluster.
func leaves() []pki.Leaf {
	api := fmt.Sprintf("https://127.0.0.1:%d", layout.APIPort)
	loopback := net.IPv4(127, 0, 0, 1)
	node := net.ParseIP(layout.NodeIP)
	return []pki.Leaf{
		{
			Name: "kube-apiserver", Authority: "ca", CommonName: "kube-apiserver",
			DNSNames: []string{
				"localhost", layout.NodeName, "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + layout.ClusterDomain,
			},
			IPs: []net.IP{loopback, net.IPv6loopback, node, net.ParseIP(layout.ServiceIP)},
		},
		{Name: "kubelet-serving", Authority: "ca", CommonName: "system:node:" + layout.NodeName, Organization: []string{"system:nodes"},
			DNSNames: []string{layout.NodeName}, IPs: []net.IP{node, loopback}},
		{Name: "etcd", Authority: "etcd-ca", CommonName: "etcd", DNSNames: []string{"localhost"}, IPs: []net.IP{loopback}, Client: true},
		{Name: "etcd-client", Authority: "etcd-ca", CommonName: "kube-apiserver"},
		{Name: "kube-apiserver-kubelet-client", Authority: "ca", CommonName: "kube-apiserver-kubelet-client"},
		{Name: "front-proxy-client", Authority: "front-proxy-ca", CommonName: "front-proxy-client"},
		{Name: "admin", Authority: "ca", CommonName: "admin", Organization: []string{"system:masters"}, Kubeconfig: api},
		{Name: "kubelet", Authority: "ca", CommonName: "system:node:" + layout.NodeName, Organization: []string{"system:nodes"}, Kubeconfig: api},
		{Name: "kube-controller-manager", Authority: "ca", CommonName: "system:kube-controller-manager", Kubeconfig: api},
		{Name: "kube-scheduler", Authority: "ca", CommonName: "system:kube-scheduler", Kubeconfig: api},
		{Name: "kube-proxy", Authority: "ca", CommonName: "system:kube-proxy", Kubeconfig: api},
	}
}

// healthy checks whether the component works.
func (c component) healthy(ctx context.Context, l layout.Layout) error {
	if c.health == "" {
		client, err := dialRuntime(l)
		if err != nil {
			return err
		}
		defer client.Close()
		return client.ready(ctx)
	}
	client := &http.Client{Timeout: 3 * time.Second}
	if strings.HasPrefix(c.health, "https://") {
		config, err := adminTLS(l)
		if err != nil {
			return err
		}
		// Controller manager and scheduler generate their own certificates at every start; the API server has ours.
		config.InsecureSkipVerify = c.name != "kube-apiserver"
		transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		client.Transport = transport
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.health, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", c.health, resp.Status)
	}
	return nil
}

func adminTLS(l layout.Layout) (*tls.Config, error) {
	ca, err := os.ReadFile(l.PKI("ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	cert, err := tls.LoadX509KeyPair(l.PKI("admin.crt"), l.PKI("admin.key"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}
