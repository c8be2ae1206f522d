// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// testedHash identifies a configuration together with its tests.
func testedHash(c *config.Pipeline, hash string) string {
	if len(c.Tests) == 0 {
		return hash
	}
	// Marshalling valid raw JSON cannot fail.
	data, _ := json.Marshal(c.Tests)
	sum := sha256.Sum256(append([]byte(hash), data...))
	return hex.EncodeToString(sum[:5])
}

// test runs spec.tests in a Job before anything rolls out. An annotation of the Deployment records what has passed.
func (p *pass) test(ctx context.Context) error {
	if len(p.desired.config.Tests) == 0 {
		return nil
	}
	if p.deployment != nil && p.deployment.Annotations[annotationTested] == p.desired.tested {
		p.setConfigValid(metav1.ConditionTrue, common.ReasonSucceeded, "The tests pass.")
		return nil
	}
	var job batchv1.Job
	key := client.ObjectKey{Namespace: p.pipeline.Namespace, Name: testName(p.pipeline, p.desired.tested)}
	err := p.c.Client.Get(ctx, key, &job)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read test Job: %w", err)
	}
	if apierrors.IsNotFound(err) {
		return p.startTest(ctx)
	}
	switch {
	case jobIs(&job, batchv1.JobComplete):
		p.setConfigValid(metav1.ConditionTrue, common.ReasonSucceeded, "The tests pass.")
		return nil
	case jobIs(&job, batchv1.JobFailed):
		message := p.testFailures(ctx, &job)
		p.setConfigValid(metav1.ConditionFalse, dataflowv1alpha1.ReasonTestFailed, message)
		return reconcile.Stall(dataflowv1alpha1.ReasonTestFailed, "%s", message)
	default:
		return p.testsRunning()
	}
}

func (p *pass) startTest(ctx context.Context) error {
	secret, err := p.desired.configSecret()
	if err != nil {
		return err
	}
	if err := p.c.Applier.Apply(ctx, p.pipeline, secret, p.desired.testJob()); err != nil {
		return err
	}
	return p.testsRunning()
}

func (p *pass) testsRunning() error {
	p.setConfigValid(metav1.ConditionUnknown, dataflowv1alpha1.ReasonTestsRunning, "The tests are being run.")
	return reconcile.Wait(dataflowv1alpha1.ReasonTestsRunning, "The tests of generation %d are being run.", p.pipeline.Generation)
}

func (p *pass) setConfigValid(status metav1.ConditionStatus, reason, message string) {
	reconcile.Set(p.pipeline, dataflowv1alpha1.ConditionConfigValid, status, reason, message)
}

func jobIs(job *batchv1.Job, condition batchv1.JobConditionType) bool {
	for _, c := range job.Status.Conditions {
		if c.Type == condition && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// testFailures reads what the worker wrote about the tests that failed. The cache may have the end of the Job before that
// of its Pod, and no later event would correct the message; so it then reads from the API server.
func (p *pass) testFailures(ctx context.Context, job *batchv1.Job) string {
	for _, reader := range []client.Reader{p.c.Client, p.c.Refs.Live} {
		var pods corev1.PodList
		err := reader.List(ctx, &pods, client.InNamespace(job.Namespace), client.MatchingLabels{"batch.kubernetes.io/job-name": job.Name})
		if err != nil {
			break
		}
		if message := terminated(pods.Items); message != "" {
			return message
		}
	}
	return "the tests could not be run; see the log of Job " + job.Name
}

func terminated(pods []corev1.Pod) string {
	for i := range pods {
		for _, container := range pods[i].Status.ContainerStatuses {
			if container.State.Terminated == nil {
				continue
			}
			if message := readFailures(container.State.Terminated.Message); message != "" {
				return message
			}
		}
	}
	return ""
}

func readFailures(terminationMessage string) string {
	var result struct {
		Failures []struct {
			Test    string `json:"test"`
			Message string `json:"message"`
		} `json:"failures"`
	}
	if json.Unmarshal([]byte(terminationMessage), &result) != nil {
		return ""
	}
	parts := make([]string, 0, len(result.Failures))
	for _, failure := range result.Failures {
		parts = append(parts, fmt.Sprintf("spec.tests[%s]: %s", failure.Test, failure.Message))
	}
	return strings.Join(parts, "; ")
}
