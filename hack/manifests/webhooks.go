// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

const (
	webhooksName = prefix + "-webhook"
	webhooksFile = "manifests.yaml"
	webhooksPort = 443
)

// writeWebhooks writes the ValidatingWebhookConfiguration from the markers in source to dir. It fills in what is the same
// for all webhooks and what no marker can say.
func writeWebhooks(source, dir string) error {
	if err := controllerGen("webhook", "paths=./"+source+"/...", "output:webhook:dir="+dir); err != nil {
		return err
	}
	path := filepath.Join(dir, webhooksFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var configuration admissionv1.ValidatingWebhookConfiguration
	if err := yaml.UnmarshalStrict(data, &configuration); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if configuration.Kind != "ValidatingWebhookConfiguration" {
		return fmt.Errorf("%s: the markers ask for a %s; only validating webhooks are served", path, configuration.Kind)
	}
	configuration.Name = webhooksName
	for i := range configuration.Webhooks {
		if err := complete(&configuration.Webhooks[i]); err != nil {
			return fmt.Errorf("%s: %s: %w", path, configuration.Webhooks[i].Name, err)
		}
	}
	return writeYAML(path, &configuration)
}

func complete(hook *admissionv1.ValidatingWebhook) error {
	service := hook.ClientConfig.Service
	if service == nil {
		return errors.New("its marker names no path")
	}
	service.Name, service.Namespace, service.Port = webhooksName, namespace, ptr.To[int32](webhooksPort)
	hook.TimeoutSeconds = ptr.To[int32](5)
	for i := range hook.Rules {
		hook.Rules[i].Scope = ptr.To(admissionv1.NamespacedScope)
	}
	return nil
}
