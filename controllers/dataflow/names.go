// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"strings"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
)

const (
	ownerKind       = "Pipeline"
	componentWorker = "pipeline-worker"
	componentTest   = "pipeline-test"
	containerName   = "worker"
	configDir       = "/etc/pipeline"
	deadLetterName  = "dead-letter"
	// annotationConfigHash has the hash of the configuration that Pods run.
	annotationConfigHash = "dataflow.itechsmart.dev/config-hash"
	// annotationGeneration has the generation that the Deployment was rendered from.
	annotationGeneration = "dataflow.itechsmart.dev/generation"
	// annotationTested has the hash of the configuration and tests that passed before the Deployment rolled out.
	annotationTested = "dataflow.itechsmart.dev/tested"
	// indexExternal finds Pipelines by the external objects that they declare.
	indexExternal = "spec.external"
)

func workerName(p *dataflowv1alpha1.Pipeline) string { return p.Name + "-pipeline" }

func configName(p *dataflowv1alpha1.Pipeline, hash string) string { return p.Name + "-" + hash }

func testName(p *dataflowv1alpha1.Pipeline, hash string) string { return p.Name + "-" + hash }

// workerLabels select the worker Pods: they never change.
func workerLabels(p *dataflowv1alpha1.Pipeline) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name": "dataflow", "app.kubernetes.io/instance": instance(p.Name),
		common.LabelComponent: componentWorker,
	}
}

func labelsOf(p *dataflowv1alpha1.Pipeline, component string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name": "dataflow", "app.kubernetes.io/instance": instance(p.Name),
		"app.kubernetes.io/part-of": "itechsmart", common.LabelComponent: component,
		apply.LabelManagedBy: apply.ManagedBy, common.LabelOwnerKind: ownerKind, common.LabelOwnerName: instance(p.Name),
	}
}

// instance returns the name as a label value. The API limits names to 52 characters.
func instance(name string) string { return name }

// normalTopic returns a topic's name in Kafka's metrics, where two topics may collide.
func normalTopic(name string) string { return strings.ReplaceAll(name, ".", "_") }
