// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

var vaultPods = map[string]string{"app.kubernetes.io/name": "vault", "app.kubernetes.io/instance": "main"}

// service returns a Service's address: the node reaches Services by address, not by name.
func (c *cluster) service(name string, port int) string {
	c.t.Helper()
	var s corev1.Service
	c.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &s)).To(Succeed())
	return fmt.Sprintf("%s:%d", s.Spec.ClusterIP, port)
}

// vaultURL returns the URL of the quickstart's Vault.
func (c *cluster) vaultURL() string { c.t.Helper(); return "http://" + c.service("main-vault", 8080) }

// administrator logs in as the Platform's first user.
func (c *cluster) administrator() string {
	c.t.Helper()
	var secret corev1.Secret
	c.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: "main-administrator"}, &secret)).To(Succeed())
	form := url.Values{"grant_type": {"password"}, "username": {string(secret.Data["username"])}, "password": {string(secret.Data["password"])}}
	var token struct {
		AccessToken string `json:"access_token"`
	}
	address := c.vaultURL() + "/api/v1/token"
	c.Eventually(func(g Gomega) {
		response, err := http.PostForm(address, form)
		g.Expect(err).NotTo(HaveOccurred())
		defer response.Body.Close()
		g.Expect(response.StatusCode).To(Equal(http.StatusOK))
		g.Expect(json.NewDecoder(response.Body).Decode(&token)).To(Succeed())
	}, patience, often).Should(Succeed())
	return token.AccessToken
}

// vault returns a client of the quickstart's Vault with the administrator's token.
func (c *cluster) vault() vault.Client {
	c.t.Helper()
	token := c.administrator()
	v, err := vault.New(vault.Options{Endpoint: c.vaultURL(), Token: func(context.Context) (string, error) { return token, nil }})
	c.Expect(err).NotTo(HaveOccurred())
	return v
}

func text(value string) vault.Write {
	return vault.Write{Type: vault.TypeText, Value: vault.Value{vault.FieldText: []byte(value)}}
}

// seal encrypts a value with vaultctl, and returns the resource that it prints.
func (c *cluster) seal(name, value string) *vaultv1alpha1.Secret {
	c.t.Helper()
	command := exec.CommandContext(c.ctx, "go", "run", "./workloads/vault/vaultctl", "seal", name, "-n", namespace, "--server", c.vaultURL())
	command.Dir, command.Stdin = root(), strings.NewReader(value)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	out, err := command.Output()
	c.Expect(err).NotTo(HaveOccurred(), complaint.String())
	c.Expect(string(out)).NotTo(ContainSubstring(value))
	var s vaultv1alpha1.Secret
	c.Expect(yaml.UnmarshalStrict(out, &s)).To(Succeed())
	return &s
}

// stored waits until a Secret is Ready with the given version at its current generation.
func (c *cluster) stored(name string, version int64) {
	c.t.Helper()
	c.Eventually(func(g Gomega) {
		var s vaultv1alpha1.Secret
		g.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &s)).To(Succeed())
		condition := meta.FindStatusCondition(s.Status.Conditions, common.ConditionReady)
		g.Expect(condition).NotTo(BeNil())
		g.Expect(condition.ObservedGeneration).To(Equal(s.Generation))
		g.Expect(string(condition.Status)).To(Equal("True"), "%s: %s", condition.Reason, condition.Message)
		g.Expect(s.Status.CurrentVersion).To(Equal(version))
	}, patience, often).Should(Succeed())
}

// forget removes a Secret resource of an earlier run.
func (c *cluster) forget(name string) {
	c.t.Helper()
	s := &vaultv1alpha1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	c.Expect(client.IgnoreNotFound(c.client.Delete(c.ctx, s))).To(Succeed())
	c.Eventually(func() bool {
		return apierrors.IsNotFound(c.client.Get(c.ctx, client.ObjectKeyFromObject(s), s))
	}, patience, often).Should(BeTrue())
}

// sql runs statements on the quickstart's PostgreSQL as its owner.
func (c *cluster) sql(statements ...string) {
	c.t.Helper()
	connection := c.postgres()
	defer connection.Close(context.Background()) //nolint:errcheck // the test's own
	for _, statement := range statements {
		_, err := connection.Exec(c.ctx, statement)
		c.Expect(err).NotTo(HaveOccurred())
	}
}

func (c *cluster) postgres() *pgx.Conn {
	c.t.Helper()
	b := c.binding("postgresql")
	u := url.URL{Scheme: "postgres", User: url.UserPassword(b.Username, b.Password), Host: b.Address(), Path: b.Database, RawQuery: "sslmode=disable"}
	connection, err := pgx.Connect(c.ctx, u.String())
	c.Expect(err).NotTo(HaveOccurred())
	return connection
}

// TestSealedSecretRotates: a sealed value becomes a core Secret that a Pipeline logs in with; another password reaches
// the running worker, and no record is lost meanwhile.
func TestSealedSecretRotates(t *testing.T) {
	c := connect(t)
	const name = "rotated"
	for _, p := range []string{name + "-gen", name} {
		c.remove(p)
	}
	c.forget(name)
	first, second := rand.Text(), rand.Text()
	c.sql("DROP SCHEMA IF EXISTS e2e_rotated CASCADE", "DROP ROLE IF EXISTS e2e_rotated",
		"CREATE ROLE e2e_rotated LOGIN PASSWORD '"+first+"'", "CREATE SCHEMA e2e_rotated AUTHORIZATION e2e_rotated")
	b := c.binding("postgresql")
	destination := &vaultv1alpha1.Destination{DeletionPolicy: common.DeletionDelete, Template: map[string]vaultv1alpha1.Template{
		"type": "postgresql", "host": vaultv1alpha1.Template("main-postgresql." + namespace + ".svc"), "port": vaultv1alpha1.Template(b.Port), "database": vaultv1alpha1.Template(b.Database),
		"username": "e2e_rotated", "password": "{{ .Value }}",
	}}
	sealed := c.seal(name, first)
	sealed.Spec.Destination, sealed.Spec.DeletionPolicy = destination, common.DeletionDelete
	c.Expect(c.client.Create(c.ctx, sealed)).To(Succeed())
	c.stored(name, 1)

	c.create(&dataflowv1alpha1.Pipeline{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: dataflowv1alpha1.PipelineSpec{
		DeletionPolicy: common.DeletionDelete,
		Sources:        []dataflowv1alpha1.Source{{Name: "in", Type: "kafka", Config: raw(`{"topic":"e2e-rotated","partitions":2}`)}},
		Sinks: []dataflowv1alpha1.Sink{{
			Name: "out", Type: "postgres", ConnectionRef: &common.ConnectionReference{Kind: common.ConnectionVaultSecret, Name: name},
			Config: raw(`{"schema":"e2e_rotated","table":"rows","create":true,"columns":[{"name":"sequence","type":"bigint"}]}`),
		}},
	}})
	c.ready(name, dataflowv1alpha1.PhaseRunning)
	c.create(&dataflowv1alpha1.Pipeline{ObjectMeta: metav1.ObjectMeta{Name: name + "-gen"}, Spec: dataflowv1alpha1.PipelineSpec{
		Sources: []dataflowv1alpha1.Source{{Name: "in", Type: "generate", Config: raw(`{"rate":500,"keys":64}`)}},
		Sinks:   []dataflowv1alpha1.Sink{{Name: "out", Type: "kafka", Config: raw(`{"topic":"e2e-rotated"}`)}},
	}})
	counted := func() (rows, distinct, last int64, err error) {
		connection := c.postgres()
		defer connection.Close(context.Background()) //nolint:errcheck // the test's own
		err = connection.QueryRow(c.ctx, "SELECT count(*), count(DISTINCT sequence), coalesce(max(sequence), -1) FROM e2e_rotated.rows").Scan(&rows, &distinct, &last)
		return rows, distinct, last, err
	}
	grows := func() {
		t.Helper()
		before, _, _, err := counted()
		c.Expect(err).NotTo(HaveOccurred())
		c.Eventually(func() (int64, error) { rows, _, _, err := counted(); return rows, err }, patience, often).Should(BeNumerically(">", before))
	}
	grows()
	worker := map[string]string{common.LabelComponent: "pipeline-worker", "app.kubernetes.io/instance": name}
	before := c.podNames(worker)

	// Another password: the first one now opens no connection.
	sealed = c.seal(name, second)
	var live vaultv1alpha1.Secret
	c.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &live)).To(Succeed())
	base := live.DeepCopy()
	live.Spec.Source = sealed.Spec.Source
	c.Expect(c.client.Patch(c.ctx, &live, client.MergeFrom(base))).To(Succeed())
	c.stored(name, 2)
	start := time.Now()
	c.sql("ALTER ROLE e2e_rotated PASSWORD '"+second+"'",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'e2e_rotated'")
	grows()
	t.Logf("rows arrive by the new password after %.1f s", time.Since(start).Seconds())
	c.Expect(c.podNames(worker)).To(Equal(before), "no worker is replaced")
	restarts, _ := c.restarts(namespace, worker)
	c.Expect(restarts).To(BeZero(), "no worker restarts")

	c.edit(name+"-gen", func(s *dataflowv1alpha1.PipelineSpec) { s.Paused = true })
	c.ready(name+"-gen", dataflowv1alpha1.PhasePaused)
	c.Eventually(func(g Gomega) {
		rows, distinct, last, err := counted()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(distinct).To(Equal(last+1), "sequence numbers are missing")
		lag := c.pipeline(name).Status.Lag
		g.Expect(lag).NotTo(BeNil())
		g.Expect(*lag).To(BeZero())
		t.Logf("%d records, none lost, %d duplicates", distinct, rows-distinct)
	}, patience, often).Should(Succeed())
	c.remove(name + "-gen")
	c.remove(name)
	c.forget(name)
	c.sql("DROP SCHEMA e2e_rotated CASCADE", "DROP ROLE e2e_rotated")
}

func (c *cluster) podNames(labels map[string]string) []string {
	c.t.Helper()
	var pods corev1.PodList
	c.Expect(c.client.List(c.ctx, &pods, client.InNamespace(namespace), client.MatchingLabels(labels))).To(Succeed())
	var names []string
	for i := range pods.Items {
		names = append(names, pods.Items[i].Name)
	}
	return names
}

// TestPlaintextDoesNotLeak writes a value, provokes errors with it, and searches for it wherever it must not be.
func TestPlaintextDoesNotLeak(t *testing.T) {
	c := connect(t)
	c.platformReady()
	canary, path := "canary-"+rand.Text(), "e2e/"+strings.ToLower(rand.Text())
	v := c.vault()
	_, err := v.Create(c.ctx, path, text(canary))
	c.Expect(err).NotTo(HaveOccurred())
	read, err := v.Read(c.ctx, path, 0)
	c.Expect(err).NotTo(HaveOccurred())
	c.Expect(string(read.Value[vault.FieldText])).To(Equal(canary))

	answers := c.provoke(canary, path)
	places := map[string][]byte{"answers to bad requests": answers}
	for _, in := range []string{namespace, "itechsmart-system"} {
		places["logs of namespace "+in] = c.kubectl("logs", "-n", in, "--selector=app.kubernetes.io/name", "--all-containers", "--prefix", "--tail=-1", "--ignore-errors", "--max-log-requests=50")
	}
	places["Vault's metrics"] = c.fetch("http://" + c.service("main-vault", 9090) + "/metrics")
	places["events"] = c.kubectl("get", "events", "-A", "-o", "yaml")
	places["resources"] = c.kubectl("get", "itechsmart,secrets.vault.itechsmart.dev", "-A", "-o", "yaml")
	c.Expect(string(places["resources"])).To(ContainSubstring(path))
	c.Expect(string(places["logs of namespace "+namespace])).To(ContainSubstring(path), "the audit lines name the path")
	for place, content := range places {
		c.Expect(holds(content, canary)).To(BeFalse(), "the canary is in the %s", place)
	}
	// The files of etcd and of all volumes, PostgreSQL's log included: what a dump of either would contain.
	disk := filepath.Join(root(), ".local", "cluster")
	for _, folder := range []string{"etcd", "volumes"} {
		c.Eventually(func() bool { return onDisk(t, filepath.Join(disk, folder), path) }, patience, often).Should(BeTrue(), "the search finds what is in %s", folder)
	}
	c.Expect(onDisk(t, disk, canary)).To(BeFalse(), "the canary is on the disk")
	c.Expect(v.Delete(c.ctx, path, true)).To(Succeed())
}

// provoke sends a canary where it does not belong, and returns all responses.
func (c *cluster) provoke(canary, path string) []byte {
	c.t.Helper()
	token, base := c.administrator(), c.vaultURL()+"/api/v1"
	var all bytes.Buffer
	for _, bad := range []struct{ method, path, body string }{
		{"POST", "/secrets", `{"path":"` + path + `","type":"` + canary + `","value":{}}`},
		{"POST", "/secrets", `{"path":"` + path + `","type":"Text","value":{"` + canary + `":"` + canary + `"}}`},
		{"PUT", "/secrets/" + url.PathEscape(path), `{"type":"APIKey","value":{"key":"` + base64.StdEncoding.EncodeToString([]byte(canary)) + `"}}`},
		{"PUT", "/secrets/" + url.PathEscape(path), canary},
		{"GET", "/secrets?cursor=" + canary, ""},
		{"POST", "/token", "grant_type=password&username=" + canary + "&password=" + canary},
		{"POST", "/secrets/x/apply", `{"type":"Text","name":"x","sourceHash":"h","sealed":"` + canary + `"}`},
	} {
		request, err := http.NewRequestWithContext(c.ctx, bad.method, base+bad.path, strings.NewReader(bad.body))
		c.Expect(err).NotTo(HaveOccurred())
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		if bad.path == "/token" {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Del("Authorization")
		}
		response, err := http.DefaultClient.Do(request)
		c.Expect(err).NotTo(HaveOccurred())
		c.Expect(response.StatusCode).To(And(BeNumerically(">=", 400), BeNumerically("<", 500)), "%s %s", bad.method, bad.path)
		_, err = io.Copy(&all, response.Body)
		c.Expect(err).NotTo(HaveOccurred())
		response.Body.Close()
	}
	return all.Bytes()
}

// holds searches for a value in plain text, and for its base64 at any offset in a longer text.
func holds(content []byte, value string) bool {
	for shift := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + value))
		// The first and the last characters depend on the neighbours.
		if bytes.Contains(content, []byte(encoded[4:len(encoded)-4])) {
			return true
		}
	}
	return bytes.Contains(content, []byte(value))
}

// onDisk searches every file of a folder; files that vanish meanwhile are skipped.
func onDisk(t *testing.T, folder, value string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || found || !entry.Type().IsRegular() || strings.Contains(path, "/containerd/") {
			return nil //nolint:nilerr // it is gone, or no file of data
		}
		data, err := os.ReadFile(path)
		if err == nil && holds(data, value) {
			t.Logf("%q is in %s", value, path)
			found = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (c *cluster) kubectl(args ...string) []byte {
	c.t.Helper()
	command := exec.CommandContext(c.ctx, filepath.Join(root(), ".local", "bin", "kubectl"), append([]string{"--kubeconfig", kubeconfig()}, args...)...)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	out, err := command.Output()
	c.Expect(err).NotTo(HaveOccurred(), "kubectl %v: %s", args, complaint.String())
	return out
}

func (c *cluster) fetch(address string) []byte {
	c.t.Helper()
	response, err := http.Get(address)
	c.Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	c.Expect(response.StatusCode).To(Equal(http.StatusOK))
	data, err := io.ReadAll(response.Body)
	c.Expect(err).NotTo(HaveOccurred())
	return data
}
