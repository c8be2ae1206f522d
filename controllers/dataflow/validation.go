// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// anyPlatform stands for the namespace's only Platform, which validation does not look up. No Platform has this name.
const anyPlatform = "*"

// validate returns everything that is invalid in a Pipeline, whatever its connections are.
func validate(p *dataflowv1alpha1.Pipeline) field.ErrorList {
	targets := map[string]string{}
	var out field.ErrorList
	for _, c := range components(p) {
		if t, err := targetOf(p, c, anyPlatform); err == nil {
			targets[c.path] = t.String()
		}
		out = append(out, validateConnection(c)...)
	}
	for _, e := range config.ValidateSpec(render(p, targets, nil)) {
		out = append(out, fieldError(e))
	}
	out = append(out, validateExternal(p, out)...)
	return append(out, validation.Resources("spec.worker.resources", p.Spec.Worker.Resources)...)
}

// validateConnection refuses a connection that the component's type cannot use, and a missing one that no Platform supplies.
func validateConnection(c component) field.ErrorList {
	info, ok := connectorInfo(c.kind, c.typ)
	path := c.path + ".connectionRef"
	switch {
	case !ok: // reported as an unknown type
		return nil
	case c.ref != nil && info.Binding == "":
		return field.ErrorList{validation.Errorf(path, "the %s %q takes no connection", c.kind, c.typ)}
	case c.ref == nil && info.Binding != "" && !info.BindingOptional && !platformv1alpha1.IsBackend(info.Binding):
		return field.ErrorList{validation.Errorf(path, "the %s %q needs a connection: name a Secret of type %s", c.kind, c.typ, info.Binding)}
	}
	return nil
}

// validateExternal checks the names and shapes of topics and tables, in configurations that their schemas allow.
func validateExternal(p *dataflowv1alpha1.Pipeline, known field.ErrorList) field.ErrorList {
	var out field.ErrorList
	for _, c := range components(p) {
		invalid := slices.ContainsFunc(known, func(e *field.Error) bool { return strings.HasPrefix(e.Field, c.path+".config") })
		if read, ok := readers[c.typ]; ok && !invalid {
			_, invalid := read(c)
			out = append(out, invalid...)
		}
	}
	return out
}

func fieldError(e config.FieldError) *field.Error {
	return validation.Errorf("spec."+e.Path, "%s", e.Message)
}

// validate sets ConfigValid to False when the specification is invalid.
func (p *pass) validate(context.Context) error { return p.report(p.c.valid.Check(p.pipeline)) }

// validateConnections checks the configuration with its connections.
func (p *pass) validateConnections(rendered *config.Pipeline) error {
	var out field.ErrorList
	for _, e := range config.ValidateConnections(rendered) {
		out = append(out, fieldError(e))
	}
	return p.report(reconcile.Invalid(out))
}

func (p *pass) report(err error) error {
	if err != nil {
		reason, message := reconcile.Classify(err)
		p.setConfigValid(metav1.ConditionFalse, reason, message)
	}
	return err
}
