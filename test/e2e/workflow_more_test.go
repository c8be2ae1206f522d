// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
)

// rerun repeats a run from step 7: earlier steps are not executed again. Each step writes a line to a table.
func rerun(f *flows) {
	f.sql("DROP TABLE IF EXISTS e2e_effects", "CREATE TABLE e2e_effects (run text, step int)")
	f.after(func(c *cluster) { c.sql("DROP TABLE e2e_effects") })
	var steps strings.Builder
	for i := range 10 {
		needs := ""
		if i > 0 {
			needs = fmt.Sprintf("needs: [s%d], ", i)
		}
		fmt.Fprintf(&steps, `- {name: s%d, %stype: sql, with: {connection: db, mode: exec, query: "INSERT INTO e2e_effects VALUES ($1, %d)", args: ["${{ run.id }}"]}}`+"\n", i+1, needs, i+1)
	}
	f.define("e2e-rerun", "connections: [{name: db, ref: {kind: Platform, name: main}, backend: postgresql}]\ntriggers: [{name: hand, type: Manual}]\nsteps:\n"+steps.String())
	first := f.ended(f.start("e2e-rerun", nil), "Succeeded")
	var again run
	f.call(http.MethodPost, "/runs/"+first.ID+"/rerun", map[string]string{"fromStep": "s7"}, &again)
	again = f.ended(again.ID, "Succeeded")
	f.Expect(again.Attempt).To(Equal(2))
	for id, want := range map[string]string{first.ID: "1,2,3,4,5,6,7,8,9,10", again.ID: "7,8,9,10"} {
		connection := f.postgres()
		var got string
		f.Expect(connection.QueryRow(f.ctx, "SELECT string_agg(step::text, ',' ORDER BY step) FROM e2e_effects WHERE run = $1", id).Scan(&got)).To(Succeed())
		_ = connection.Close(f.ctx)
		f.Expect(got).To(Equal(want))
	}
}

// pipelines pauses a Pipeline, starts it and waits for it; its credentials come from a vault Secret.
func pipelines(f *flows) {
	f.remove("e2e-flow")
	f.create(&dataflowv1alpha1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Name: "e2e-flow"},
		Spec: dataflowv1alpha1.PipelineSpec{
			Sources: []dataflowv1alpha1.Source{{Name: "in", Type: "generate", Config: raw(`{"rate":10}`)}},
			Sinks:   []dataflowv1alpha1.Sink{{Name: "out", Type: "drop", Config: raw(`{}`)}},
		},
	})
	f.cluster.ready("e2e-flow", dataflowv1alpha1.PhaseRunning)
	f.define("e2e-pipeline", `triggers: [{name: hand, type: Manual}]
steps:
- {name: pause, type: pipeline, with: {name: e2e-flow, action: pause}}
- {name: paused, needs: [pause], type: pipeline, with: {name: e2e-flow, action: wait, until: Paused, timeout: 2m}}
- {name: start, needs: [paused], type: pipeline, with: {name: e2e-flow, action: start}}
- {name: running, needs: [start], type: pipeline, with: {name: e2e-flow, action: wait, until: Running, timeout: 2m}}`)
	f.ended(f.start("e2e-pipeline", nil), "Succeeded")
	f.Expect(f.pipeline("e2e-flow").Spec.Paused).To(BeFalse())
	f.remove("e2e-flow")
}

// children calls another workflow, whose step takes its credentials from a vault Secret.
func children(f *flows) {
	v := f.vault()
	_ = v.Delete(f.ctx, "e2e/workflow-db", true) // an earlier run may have left it
	f.sql("DROP SCHEMA IF EXISTS e2e_flow CASCADE", "DROP ROLE IF EXISTS e2e_flow", "CREATE ROLE e2e_flow LOGIN PASSWORD 'e2e-flow-password'")
	f.kubectlApply(fmt.Sprintf(`apiVersion: vault.itechsmart.dev/v1alpha1
kind: Secret
metadata: {name: e2e-workflow-db, namespace: %s}
spec:
  type: Text
  path: e2e/workflow-db
  deletionPolicy: Delete
  source: {external: {path: e2e/workflow-db}}
  destination:
    deletionPolicy: Delete
    template: {type: postgresql, host: main-postgresql.%[1]s, port: "5432", database: %s, username: e2e_flow, password: "{{ .Value }}"}`, namespace, f.binding("postgresql").Database))
	f.after(func(c *cluster) { c.forget("e2e-workflow-db") })
	_, err := v.Create(f.ctx, "e2e/workflow-db", text("e2e-flow-password"))
	f.Expect(err).NotTo(HaveOccurred())
	f.define("e2e-child", `inputs: [{name: number, type: integer}]
connections: [{name: db, ref: {kind: VaultSecret, name: e2e-workflow-db}}]
triggers: [{name: hand, type: Manual}]
steps: [{name: ask, type: sql, with: {connection: db, query: "SELECT current_user::text AS who, $1::bigint * 2 AS double", args: ["${{ inputs.number }}"]}}]
outputs: {who: "${{ steps.ask.output.rows[0].who }}", double: "${{ steps.ask.output.rows[0].double }}"}`)
	f.define("e2e-parent", `triggers: [{name: hand, type: Manual}]
steps: [{name: call, type: workflow, forEach: {items: [1, 2, 3]}, with: {name: e2e-child, inputs: {number: "${{ item }}"}, wait: true}}]
outputs: {all: "${{ steps.call.output }}"}`)
	r := f.ended(f.start("e2e-parent", nil), "Succeeded")
	f.Expect(fmt.Sprint(r.Outputs["all"])).To(And(ContainSubstring("e2e_flow"), ContainSubstring("double:6")))
}

// after cleans up once the test's own context has ended.
func (c *cluster) after(do func(*cluster)) {
	late := *c
	late.ctx = context.Background()
	c.t.Cleanup(func() { do(&late) })
}

func (c *cluster) kubectlApply(text string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "resources.yaml")
	c.Expect(os.WriteFile(file, []byte(text), 0o600)).To(Succeed())
	c.kubectl("apply", "-f", file)
}

// resources starts a run by a WorkflowRun, and checks the columns that kubectl prints.
func resources(f *flows) {
	f.define("e2e-columns", `inputs: [{name: number, type: integer}]
triggers: [{name: hand, type: Manual}, {name: night, type: Scheduled, scheduled: {cron: "0 3 * * *"}}]
steps: [{name: a, type: wait, with: {for: 1s}}]
history: {successful: 2}`)
	for i := range 3 {
		r := &workflowv1alpha1.WorkflowRun{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("e2e-columns-%d", i), Namespace: namespace}}
		r.Spec.WorkflowRef.Name, r.Spec.Inputs = "e2e-columns", raw(`{"number": 1}`)
		_ = f.client.Delete(f.ctx, r.DeepCopy())
		f.Eventually(func() error { return f.client.Create(f.ctx, r.DeepCopy()) }, patience, often).Should(Succeed())
		f.Eventually(func() workflowv1alpha1.RunPhase {
			var got workflowv1alpha1.WorkflowRun
			if err := f.client.Get(f.ctx, client.ObjectKeyFromObject(r), &got); err != nil {
				return ""
			}
			return got.Status.Phase
		}, patience, often).Should(Equal(workflowv1alpha1.RunSucceeded))
	}
	f.Eventually(func() int {
		var list workflowv1alpha1.WorkflowRunList
		f.Expect(f.client.List(f.ctx, &list, client.InNamespace(namespace))).To(Succeed())
		left := 0
		for _, r := range list.Items {
			if r.Spec.WorkflowRef.Name == "e2e-columns" {
				left++
			}
		}
		return left
	}, patience, often).Should(Equal(2), "two successful runs are kept")
	f.Eventually(func() string { return string(f.kubectl("-n", namespace, "get", "workflows", "e2e-columns")) }, patience, often).
		Should(MatchRegexp(`NAME +READY +TRIGGERS +ACTIVE +LAST +NEXT +AGE\ne2e-columns +True +2/2 +0 +Succeeded +\d{4}-\d\d-\d\dT03:00:00Z`))
	f.Expect(string(f.kubectl("-n", namespace, "get", "workflowruns"))).To(MatchRegexp(`NAME +WORKFLOW +PHASE +STEP +DURATION +AGE\n(.*\n)*e2e-columns-2 +e2e-columns +Succeeded +[0-9.]+s`))
}

// refusals checks that the API server refuses a graph that could never run, with the reason.
func refusals(f *flows) {
	for path, steps := range map[string]string{
		"spec.steps[1].needs[0]": `[{name: a, type: transform, with: {value: 1}}, {name: b, needs: [nobody], type: transform, with: {value: 1}}]`,
		"spec.steps[0].when":     `[{name: a, when: "steps.b.output == 1", type: transform, with: {value: 1}}, {name: b, type: transform, with: {value: 1}}]`,
	} {
		w := &workflowv1alpha1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: "e2e-refused", Namespace: namespace}}
		f.Expect(yaml.UnmarshalStrict([]byte(steps), &w.Spec.Steps)).To(Succeed())
		err := f.client.Create(f.ctx, w)
		f.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
		f.Expect(err.Error()).To(ContainSubstring(path))
	}
}
