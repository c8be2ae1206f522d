// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// catchUp is the time in which workers that do not lag can process their backlog.
const catchUp = time.Minute

// Finish implements reconcile.Pass. It fills the status from the Deployment and the workers' last answers.
func (p *pass) Finish(_ context.Context, err error) time.Duration {
	status := &p.pipeline.Status
	status.Selector = labels.SelectorFromSet(workerLabels(p.pipeline)).String()
	status.Replicas, status.ReadyReplicas = 0, 0
	if d := p.deployment; d != nil {
		status.Replicas, status.ReadyReplicas = d.Status.Replicas, d.Status.ReadyReplicas
		if rolled(d) {
			status.ActiveGeneration, _ = strconv.ParseInt(d.Annotations[annotationGeneration], 10, 64)
			status.ConfigHash = d.Annotations[annotationConfigHash]
		}
	}
	s := p.c.Monitor.latest(client.ObjectKeyFromObject(p.pipeline))
	if s == nil || len(s.statuses) == 0 {
		p.noWorkers()
	} else {
		p.fromSample(s)
	}
	status.Phase = p.phase(err, s)
	p.readyWhenPaused(err)
	if err != nil || len(p.declared) == 0 {
		return 0
	}
	return p.c.DriftInterval
}

// rolled reports whether every Pod of the Deployment has its current template.
func rolled(d *appsv1.Deployment) bool {
	return d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == d.Status.Replicas &&
		d.Spec.Replicas != nil && d.Status.Replicas == *d.Spec.Replicas
}

// noWorkers clears what only workers can report.
func (p *pass) noWorkers() {
	status := &p.pipeline.Status
	status.Throughput, status.Lag = dataflowv1alpha1.Throughput{}, nil
	status.Sources, status.Sinks = nil, nil
	for _, condition := range []string{
		dataflowv1alpha1.ConditionSourcesConnected, dataflowv1alpha1.ConditionSinksConnected,
		dataflowv1alpha1.ConditionLagging, dataflowv1alpha1.ConditionDeadLettering,
	} {
		meta.RemoveStatusCondition(&status.Conditions, condition)
	}
}

func (p *pass) fromSample(s *sample) {
	status := &p.pipeline.Status
	var in, out float64
	var records config.Records
	lag := int64(-1)
	var sources, sinks []config.Component
	for i := range s.statuses {
		w := &s.statuses[i]
		in, out = in+w.InPerSecond, out+w.OutPerSecond
		records.In, records.Out = records.In+w.Records.In, records.Out+w.Records.Out
		records.Filtered, records.Errored = records.Filtered+w.Records.Filtered, records.Errored+w.Records.Errored
		records.DeadLettered += w.Records.DeadLettered
		if w.Lag >= 0 {
			lag = max(lag, 0) + w.Lag
		}
		sources, sinks = append(sources, w.Sources...), append(sinks, w.Sinks...)
	}
	status.Throughput = dataflowv1alpha1.Throughput{In: int64(math.Round(in)), Out: int64(math.Round(out))}
	status.Records = dataflowv1alpha1.Records{
		In: records.In, Out: records.Out, Filtered: records.Filtered, Errored: records.Errored, DeadLettered: records.DeadLettered,
	}
	status.Lag = nil
	if lag >= 0 {
		status.Lag = &lag
	}
	status.Sources, status.Sinks = merge(sources), merge(sinks)
	p.connected(dataflowv1alpha1.ConditionSourcesConnected, "source", status.Sources)
	p.connected(dataflowv1alpha1.ConditionSinksConnected, "sink", status.Sinks)
	p.lagging(lag, in)
	if records.DeadLettered > 0 {
		reconcile.Set(p.pipeline, dataflowv1alpha1.ConditionDeadLettering, metav1.ConditionTrue, dataflowv1alpha1.ConditionDeadLettering,
			"Records were turned away since the workers started; see the error header of the records in "+p.deadLetterTopic()+".")
	} else {
		reconcile.Set(p.pipeline, dataflowv1alpha1.ConditionDeadLettering, metav1.ConditionFalse, common.ReasonSucceeded, "No record was turned away.")
	}
}

func (p *pass) deadLetterTopic() string {
	if p.pipeline.Spec.DeadLetter == nil {
		return "the dead-letter topic"
	}
	return "topic " + p.pipeline.Spec.DeadLetter.Topic
}

func (p *pass) lagging(lag int64, perSecond float64) {
	if lag < 0 {
		meta.RemoveStatusCondition(&p.pipeline.Status.Conditions, dataflowv1alpha1.ConditionLagging)
		return
	}
	if lag > 0 && float64(lag) > perSecond*catchUp.Seconds() {
		reconcile.Set(p.pipeline, dataflowv1alpha1.ConditionLagging, metav1.ConditionTrue, dataflowv1alpha1.ConditionLagging,
			"At the current throughput the workers need more than a minute to catch up; see status.lag, and raise spec.replicas up to the number of partitions.")
		return
	}
	reconcile.Set(p.pipeline, dataflowv1alpha1.ConditionLagging, metav1.ConditionFalse, common.ReasonSucceeded, "The workers keep up.")
}

// severity orders states from best to worst.
var severity = map[config.ComponentState]int{
	config.StateFinished: 0, config.StateConnected: 1, config.StateStopped: 2, config.StateConnecting: 3, config.StateRetrying: 4,
}

// merge returns one row per name, with the worst state, its error, and the latest activity of all workers.
func merge(rows []config.Component) []dataflowv1alpha1.ComponentStatus {
	worst := map[string]config.Component{}
	for _, row := range rows {
		known, ok := worst[row.Name]
		if !ok {
			worst[row.Name] = row
			continue
		}
		activity := known.LastActivity
		if row.LastActivity.After(activity) {
			activity = row.LastActivity
		}
		if severity[row.State] > severity[known.State] {
			known = row
		}
		known.LastActivity = activity
		worst[row.Name] = known
	}
	out := make([]dataflowv1alpha1.ComponentStatus, 0, len(worst))
	for _, row := range worst {
		merged := dataflowv1alpha1.ComponentStatus{Name: row.Name, State: string(row.State), LastError: row.LastError}
		if !row.LastActivity.IsZero() {
			merged.LastActivity = &metav1.Time{Time: row.LastActivity.Truncate(time.Second)}
		}
		out = append(out, merged)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// connected sets SourcesConnected or SinksConnected.
func (p *pass) connected(condition, what string, rows []dataflowv1alpha1.ComponentStatus) {
	var trouble []string
	reason := dataflowv1alpha1.ReasonConnecting
	for _, row := range rows {
		switch config.ComponentState(row.State) {
		case config.StateRetrying:
			reason = dataflowv1alpha1.ReasonRetrying
			trouble = append(trouble, fmt.Sprintf("%s %s: %s", what, row.Name, row.LastError))
		case config.StateConnecting:
			trouble = append(trouble, fmt.Sprintf("%s %s: %s", what, row.Name, cmp.Or(row.LastError, "is being connected")))
		}
	}
	if len(trouble) == 0 {
		reconcile.Set(p.pipeline, condition, metav1.ConditionTrue, dataflowv1alpha1.ReasonConnected, "Every worker is connected.")
		return
	}
	reconcile.Set(p.pipeline, condition, metav1.ConditionFalse, reason, strings.Join(trouble, "; "))
}

func (p *pass) phase(err error, s *sample) dataflowv1alpha1.Phase {
	var terminal *reconcile.Terminal
	running := s != nil && len(s.statuses) > 0
	switch {
	case errors.As(err, &terminal) && running:
		return dataflowv1alpha1.PhaseDegraded
	case errors.As(err, &terminal):
		return dataflowv1alpha1.PhaseFailed
	case p.desired == nil:
		return dataflowv1alpha1.PhasePending
	case err != nil && p.deployment == nil:
		return dataflowv1alpha1.PhasePending
	case err != nil && p.deployment != nil && !rolled(p.deployment):
		return dataflowv1alpha1.PhaseDeploying
	case err != nil:
		return dataflowv1alpha1.PhaseDegraded
	case p.desired.replicas == 0:
		return dataflowv1alpha1.PhasePaused
	case finished(s):
		return dataflowv1alpha1.PhaseFinished
	default:
		return dataflowv1alpha1.PhaseRunning
	}
}

func finished(s *sample) bool {
	if s == nil || len(s.statuses) == 0 || s.silent > 0 {
		return false
	}
	for i := range s.statuses {
		if !s.statuses[i].Finished {
			return false
		}
	}
	return true
}

// readyWhenPaused says why a Ready Pipeline moves no records.
func (p *pass) readyWhenPaused(err error) {
	if err != nil {
		return
	}
	switch p.pipeline.Status.Phase {
	case dataflowv1alpha1.PhasePaused:
		reconcile.Set(p.pipeline, common.ConditionReady, metav1.ConditionTrue, dataflowv1alpha1.ReasonPaused, "Paused as asked; set spec.paused to false, and spec.replicas above 0, to go on.")
	case dataflowv1alpha1.PhaseFinished:
		reconcile.Set(p.pipeline, common.ConditionReady, metav1.ConditionTrue, dataflowv1alpha1.ReasonFinished, "Every source has delivered all it has.")
	default:
		if p.single != "" {
			reconcile.Set(p.pipeline, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded,
				"One worker runs instead of the wanted replicas: "+p.single+" cannot be shared.")
		}
	}
}
