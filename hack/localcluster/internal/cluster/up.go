// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/itechsmart/operator/hack/localcluster/internal/build"
	"github.com/itechsmart/operator/hack/localcluster/internal/config"
	"github.com/itechsmart/operator/hack/localcluster/internal/image"
	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
	"github.com/itechsmart/operator/hack/localcluster/internal/node"
	"github.com/itechsmart/operator/hack/localcluster/internal/pki"
	"github.com/itechsmart/operator/hack/localcluster/internal/process"
)

// ownImages are the references and tarballs of our own images.
type ownImages struct{ pause, addons, pauseFile, addonsFile string }

// step is one line of progress.
type step struct {
	name string
	run  func(context.Context) (note string, err error)
}

// Up starts what is not running, and waits until node, DNS, metrics and volumes work.
func (c *Cluster) Up(ctx context.Context) error {
	if missing := build.MissingPackages(); len(missing) > 0 {
		return fmt.Errorf("packages %s are missing: run `localcluster build` first", strings.Join(missing, ", "))
	}
	for _, name := range []string{"kube", "addons", "pause"} {
		if _, err := os.Stat(c.l.Bin(name)); err != nil {
			return fmt.Errorf("%s is missing: run `localcluster build` first", c.l.Bin(name))
		}
	}
	var images ownImages
	started := time.Now()
	steps := []step{
		{"machine", func(context.Context) (string, error) { return "", c.prepareMachine() }},
		{"configuration", func(context.Context) (note string, err error) { images, err = c.configure(); return "", err }},
	}
	for _, p := range c.parts {
		steps = append(steps, step{p.name, func(ctx context.Context) (string, error) { return c.bringUp(ctx, p) }})
		if p.name == "containerd" {
			steps = append(steps, step{"images", func(ctx context.Context) (string, error) {
				return "", c.Load(ctx, []string{images.pauseFile, images.addonsFile}, nil)
			}})
		}
	}
	steps = append(steps,
		step{"add-ons", func(ctx context.Context) (string, error) { return "", c.applyAddons(ctx, images.addons) }},
		step{"node Ready", func(ctx context.Context) (string, error) { return "", c.waitNode(ctx, started) }},
		step{"volume-provisioner", func(ctx context.Context) (string, error) { return "", c.rollout(ctx, "volume-provisioner") }},
		step{"coredns", c.waitDNS},
		step{"metrics-server", c.waitMetrics},
	)
	for i, s := range steps {
		fmt.Fprintf(c.out, "[%2d/%d] %s … ", i+1, len(steps), s.name)
		begin := time.Now()
		note, err := s.run(ctx)
		if err != nil {
			fmt.Fprintln(c.out, "failed")
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(c.out, "%.1fs %s\n", time.Since(begin).Seconds(), note)
	}
	fmt.Fprintf(c.out, "up after %.1fs; export KUBECONFIG=%s\n", time.Since(started).Seconds(), c.l.Kubeconfig())
	return nil
}

func (c *Cluster) bringUp(ctx context.Context, p component) (string, error) {
	started, err := c.start(p)
	if err != nil {
		return "", err
	}
	if p.name == "kubelet" {
		c.kubeletStarted = started
	}
	if err := c.waitHealthy(ctx, p); err != nil {
		return "", err
	}
	if !started {
		return "(already running)", nil
	}
	return "", nil
}

// prepareMachine creates directories, cgroups, network and kernel settings. After a reboot it first clears containerd's
// state of containers that are gone.
func (c *Cluster) prepareMachine() error {
	for _, dir := range []string{
		c.l.Run(), c.l.Log("pods"), c.l.Volumes(), c.l.ContainerdRoot(), c.l.Images(), c.l.KubeletRoot(),
		c.l.Cluster("config"), c.l.Cluster("cni", "net.d"), c.l.Cluster("volume-plugins"), c.l.State("containerd"),
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	boot, err := process.BootID()
	if err != nil {
		return err
	}
	bootFile := c.l.Run("boot-id")
	if last, err := os.ReadFile(bootFile); err == nil && string(last) != boot {
		for _, dir := range []string{c.l.State("containerd"), c.l.Cluster("cni", "addresses"), c.kernelRecord()} {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(bootFile, []byte(boot), 0o600); err != nil {
		return err
	}
	if err := c.rememberSockets(); err != nil {
		return err
	}
	if err := c.cgroups.Create(); err != nil {
		return err
	}
	if err := node.SetKernel(c.kernelRecord()); err != nil {
		return err
	}
	if err := node.CreateNetwork(); err != nil {
		return err
	}
	return node.AllowForwarding()
}

func (c *Cluster) kernelRecord() string { return c.l.Run("kernel.json") }

// configure issues certificates, renders configuration files and writes the tarballs of our images.
func (c *Cluster) configure() (ownImages, error) {
	var images ownImages
	var err error
	if images.pause, images.pauseFile, err = image.Build(c.l.Bin("pause"), c.l.Images()); err != nil {
		return images, fmt.Errorf("image of pause: %w", err)
	}
	if images.addons, images.addonsFile, err = image.Build(c.l.Bin("addons"), c.l.Images()); err != nil {
		return images, fmt.Errorf("image of the add-ons: %w", err)
	}
	if err := pki.Ensure(c.l.PKI(""), authorities, leaves(), "service-account"); err != nil {
		return images, err
	}
	admin, err := os.ReadFile(c.l.PKI("admin.kubeconfig"))
	if err != nil {
		return images, err
	}
	machine, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return images, err
	}
	resolv, _ := config.ResolvConf(string(machine))
	files := map[string]string{c.l.Kubeconfig(): string(admin), c.l.Config("resolv.conf"): resolv}
	for path, render := range map[string]func() (string, error){
		c.l.Config("containerd.toml"):                         func() (string, error) { return config.Containerd(c.l, images.pause) },
		c.l.Config("kubelet.yaml"):                            func() (string, error) { return config.Kubelet(c.l, c.cgroups.Root()) },
		c.l.Config("kube-proxy.yaml"):                         func() (string, error) { return config.KubeProxy(c.l) },
		c.l.Cluster("cni", "net.d", "10-itechsmart.conflist"): func() (string, error) { return config.CNI(c.l) },
	} {
		if files[path], err = render(); err != nil {
			return images, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	for path, content := range files {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return images, err
		}
	}
	// Pods of any user read the resolver configuration.
	return images, os.Chmod(c.l.Config("resolv.conf"), 0o644)
}

// kubectl runs kubectl as administrator and returns its output.
func (c *Cluster) kubectl(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.l.Bin("kubectl"), append([]string{"--kubeconfig=" + c.l.Kubeconfig()}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", args[0], err, strings.TrimSpace(problem.String()))
	}
	return out.String(), nil
}

func (c *Cluster) applyAddons(ctx context.Context, addons string) error {
	resolv, err := os.ReadFile(c.l.Config("resolv.conf"))
	if err != nil {
		return err
	}
	_, forward := config.ResolvConf(string(resolv))
	manifests, err := config.Manifests(c.l, addons, forward)
	if err != nil {
		return err
	}
	_, err = c.kubectl(ctx, manifests, "apply", "--server-side", "--force-conflicts", "--field-manager=localcluster", "-f", "-")
	return err
}

// waitNode waits until the node is Ready. If the kubelet was started by this call, earlier reports do not count: the
// node's status or its lease must have been renewed since.
func (c *Cluster) waitNode(ctx context.Context, since time.Time) error {
	if c.kubeletStarted {
		var last error
		err := poll(ctx, func() bool {
			var reported bool
			reported, last = c.nodeReported(ctx, since)
			return reported
		})
		if err != nil {
			return errors.Join(errors.New("the kubelet has not reported"), err, last)
		}
	}
	_, err := c.kubectl(ctx, "", "wait", "--for=condition=Ready", "node/"+layout.NodeName, "--timeout="+remaining(ctx))
	return err
}

func (c *Cluster) nodeReported(ctx context.Context, since time.Time) (bool, error) {
	status, err := c.kubectl(ctx, "", "get", "node", layout.NodeName, `-o=jsonpath={.status.conditions[?(@.type=="Ready")].lastHeartbeatTime}`)
	if err != nil {
		return false, err
	}
	lease, err := c.kubectl(ctx, "", "get", "lease", "--namespace=kube-node-lease", "--ignore-not-found", layout.NodeName, "-o=jsonpath={.spec.renewTime}")
	if err != nil {
		return false, err
	}
	for _, text := range []string{status, lease} {
		// The times are truncated, to the second at most.
		if at, err := time.Parse(time.RFC3339, text); err == nil && !at.Before(since.Truncate(time.Second)) {
			return true, nil
		}
	}
	return false, nil
}

func (c *Cluster) rollout(ctx context.Context, deployment string) error {
	_, err := c.kubectl(ctx, "", "rollout", "status", "--namespace=kube-system", "deployment/"+deployment, "--timeout="+remaining(ctx))
	if err != nil {
		pods, _ := c.kubectl(context.WithoutCancel(ctx), "", "get", "pods,events", "--namespace=kube-system")
		return fmt.Errorf("%w\n%s", err, pods)
	}
	return nil
}

// waitDNS waits until the DNS Service resolves a Service: CoreDNS, kube-proxy and pod network work together.
func (c *Cluster) waitDNS(ctx context.Context) (string, error) {
	if err := c.rollout(ctx, "coredns"); err != nil {
		return "", err
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: time.Second}
		return d.DialContext(ctx, network, net.JoinHostPort(layout.DNSIP, "53"))
	}}
	var last error
	err := poll(ctx, func() bool {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, last = resolver.LookupHost(ctx, "kubernetes.default.svc."+layout.ClusterDomain+".")
		return last == nil
	})
	if err != nil {
		return "", errors.Join(err, last)
	}
	return "", nil
}

// waitMetrics waits until the aggregated API answers with the node's usage.
func (c *Cluster) waitMetrics(ctx context.Context) (string, error) {
	if err := c.rollout(ctx, "metrics-server"); err != nil {
		return "", err
	}
	var last error
	err := poll(ctx, func() bool {
		_, last = c.kubectl(ctx, "", "get", "--raw=/apis/metrics.k8s.io/v1beta1/nodes/"+layout.NodeName)
		return last == nil
	})
	if err != nil {
		return "", errors.Join(err, last)
	}
	return "", nil
}

func remaining(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return "10m"
	}
	return max(time.Until(deadline), time.Second).Truncate(time.Second).String()
}
