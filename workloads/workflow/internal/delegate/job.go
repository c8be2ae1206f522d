// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/itechsmart/operator/workloads/workflow/internal/steps/delegated"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

const (
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "itechsmart-workflow"
	runLabel       = "workflow.itechsmart.dev/run"
	stepAnnotation = "workflow.itechsmart.dev/step"
	container      = "step"

	// jobTTL is how many seconds a finished Job is kept.
	jobTTL = int32(60 * 60)
	// maxLogs and maxJSON limit the part of a Job's logs in the step's output, raw and as JSON. logLines limits what is read.
	maxLogs  = 64 << 10
	maxJSON  = 128 << 10
	logLines = int64(10_000)

	requestTimeout = 15 * time.Second
)

// cluster accesses the API server.
type cluster struct {
	namespace string
	dynamic   dynamic.Interface
	client    kubernetes.Interface
}

func newCluster(config *rest.Config, namespace string) (*cluster, error) {
	settings := rest.CopyConfig(config)
	settings.Timeout = requestTimeout
	if settings.QPS == 0 { // client-go would default to 5 per second; the API server has priority and fairness
		settings.QPS, settings.Burst = -1, -1
	}
	c := &cluster{namespace: namespace}
	var err, errTyped error
	c.dynamic, err = dynamic.NewForConfig(settings)
	c.client, errTyped = kubernetes.NewForConfig(settings)
	if err := errors.Join(err, errTyped); err != nil {
		return nil, fmt.Errorf("delegated steps: create the client: %w", err)
	}
	return c, nil
}

// logs reads the end of a Pod's logs.
func (c *cluster) logs(ctx context.Context, pod string) (io.ReadCloser, error) {
	lines := logLines
	return c.client.CoreV1().Pods(c.namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container, TailLines: &lines}).Stream(ctx)
}

// jobs runs Jobs.
type jobs struct {
	*cluster
	store *store.Store
	logs  func(ctx context.Context, pod string) (io.ReadCloser, error)
}

func (j *jobs) begin(ctx context.Context, t *task) (map[string]any, error) {
	job, err := newJob(t)
	if err != nil {
		return delegated.Failure(err.Error(), true), nil //nolint:nilerr // the error is the step's
	}
	t.target = job.Name
	noted, err := j.store.Intend(ctx, t.delegation())
	if err != nil || noted.Begun {
		return nil, err
	}
	_, err = j.client.BatchV1().Jobs(j.namespace).Create(ctx, job, metav1.CreateOptions{FieldManager: managedBy})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return refused("Job "+job.Name, err)
	}
	return nil, j.store.Begun(ctx, t.delegation())
}

// newJob returns the Job of a step's attempt. It is deterministic.
func newJob(t *task) (*batchv1.Job, error) {
	sum := sha256.Sum256([]byte(t.key))
	labels := map[string]string{managedByLabel: managedBy, runLabel: t.Run}
	yes, no, none, ttl := true, false, int32(0), jobTTL
	c := corev1.Container{Name: container, Image: text(t, "image"), SecurityContext: &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no, RunAsNonRoot: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}}
	if err := asJSON(map[string]any{"command": t.config["command"], "args": t.config["args"], "resources": t.config["resources"]}, &c); err != nil {
		return nil, fmt.Errorf("with.resources: must have requests and limits, as in a Pod: %w", err)
	}
	env, _ := t.config["env"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: fmt.Sprint(env[name])})
	}
	pod := corev1.PodSpec{
		Containers: []corev1.Container{c}, RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, SeccompProfile: c.SecurityContext.SeccompProfile},
	}
	// The ServiceAccount is for its image pull secrets. Its token is not mounted: authors of Workflows must not get the permissions
	// of every ServiceAccount in the namespace.
	pod.ServiceAccountName = text(t, "serviceAccount")
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "wf-" + hex.EncodeToString(sum[:12]), Labels: labels, Annotations: map[string]string{stepAnnotation: t.Workflow + "/" + t.Name}},
		Spec: batchv1.JobSpec{
			BackoffLimit: &none, TTLSecondsAfterFinished: &ttl,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod},
		},
	}
	if timeout, err := time.ParseDuration(text(t, "timeout")); err == nil {
		seconds := max(1, int64(timeout.Seconds()))
		job.Spec.ActiveDeadlineSeconds = &seconds
	}
	return job, nil
}

func (j *jobs) check(ctx context.Context, tasks []*task, answer func(*task, map[string]any)) error {
	list, err := j.client.BatchV1().Jobs(j.namespace).List(ctx, metav1.ListOptions{LabelSelector: managedByLabel + "=" + managedBy, ResourceVersion: "0"})
	if err != nil {
		return fmt.Errorf("list Jobs: %w", err)
	}
	byName := map[string]*batchv1.Job{}
	for i := range list.Items {
		byName[list.Items[i].Name] = &list.Items[i]
	}
	var errs []error
	for _, t := range tasks {
		data, err := j.outcome(ctx, t, byName[t.target])
		if data != nil {
			answer(t, data)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// outcome returns nil while the Job runs.
func (j *jobs) outcome(ctx context.Context, t *task, job *batchv1.Job) (map[string]any, error) {
	if job == nil { // the list came from the API server's watch cache, which may lag
		var err error
		job, err = j.client.BatchV1().Jobs(j.namespace).Get(ctx, t.target, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return delegated.Failure(fmt.Sprintf("Job %s was deleted before it finished", t.target), false), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read Job %s: %w", t.target, err)
		}
	}
	for _, c := range job.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobComplete:
			return j.done(ctx, job.Name)
		case c.Type == batchv1.JobFailed && c.Reason == batchv1.JobReasonDeadlineExceeded:
			return delegated.Failure(fmt.Sprintf("with.timeout: Job %s timed out", job.Name), false), nil
		case c.Type == batchv1.JobFailed:
			return j.failed(ctx, job.Name, c.Message)
		}
	}
	return nil, nil
}

// done returns the exit code and the logs. Without its Pod, which may have been deleted, there are no logs.
func (j *jobs) done(ctx context.Context, job string) (map[string]any, error) {
	pod, _, err := j.pod(ctx, job)
	if err != nil {
		return nil, err
	}
	logs := ""
	if pod != "" {
		stream, err := j.logs(ctx, pod)
		if err != nil {
			return nil, fmt.Errorf("logs of Job %s: %w", job, err)
		}
		defer stream.Close() //nolint:errcheck // read only
		if logs, err = tail(stream); err != nil {
			return nil, fmt.Errorf("logs of Job %s: %w", job, err)
		}
	}
	return delegated.Answer(map[string]any{"exitCode": 0, "logs": logs}), nil
}

// failed returns a failure with the exit code. The logs stay with the Job: errors are shown where logs must not be.
func (j *jobs) failed(ctx context.Context, job, message string) (map[string]any, error) {
	_, code, err := j.pod(ctx, job)
	if err != nil {
		return nil, err
	}
	if code > 0 {
		message = fmt.Sprintf("the container exited with code %d", code)
	}
	return delegated.Failure(fmt.Sprintf("Job %s failed: %s; it is kept for an hour, see kubectl logs job/%s", job, message, job), false), nil
}

// pod returns the name and the exit code of a Job's Pod. The name is empty if there is none.
func (j *jobs) pod(ctx context.Context, job string) (name string, code int32, err error) {
	list, err := j.client.CoreV1().Pods(j.namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job})
	if err != nil {
		return "", 0, fmt.Errorf("list the Pods of Job %s: %w", job, err)
	}
	for _, p := range list.Items {
		name = p.Name
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Terminated != nil {
				code = c.State.Terminated.ExitCode
			}
		}
	}
	return name, code, nil
}

// tail returns the end of a stream as text that is valid in JSON and in the database.
func tail(from io.Reader) (string, error) {
	end := make([]byte, 0, 2*maxLogs)
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if end = append(end, buffer[:n]...); len(end) > maxLogs+len(buffer) {
			end = append(end[:0], end[len(end)-maxLogs:]...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	end = end[max(0, len(end)-maxLogs):]
	out := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(end), "\uFFFD"))
	for { // JSON may escape one character as six
		data, err := json.Marshal(out)
		if err != nil || len(data) <= maxJSON {
			return out, err
		}
		out = strings.ToValidUTF8(out[len(out)/2:], "")
	}
}

// abandon deletes a Job that is still running. A finished Job is kept for inspection.
func (j *jobs) abandon(ctx context.Context, d store.Delegation) error {
	job, err := j.client.BatchV1().Jobs(j.namespace).Get(ctx, d.Target, metav1.GetOptions{})
	if err == nil && job.Status.CompletionTime == nil && !slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue
	}) {
		background := metav1.DeletePropagationBackground
		err = j.client.BatchV1().Jobs(j.namespace).Delete(ctx, d.Target, metav1.DeleteOptions{PropagationPolicy: &background})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Job %s: %w", d.Target, err)
	}
	return nil
}
