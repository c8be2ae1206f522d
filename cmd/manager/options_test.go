// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/controllers"
)

func parsed(t *testing.T, args ...string) *options {
	t.Helper()
	o, err := parse(args)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return o
}

func TestImages(t *testing.T) {
	programs := controllers.Programs()
	NewWithT(t).Expect(programs).NotTo(BeEmpty())
	for name, c := range map[string]struct {
		args []string
		// want is the image of a program.
		want func(program string) string
	}{
		"default": {nil, func(p string) string { return "docker.io/itechsmart/" + p + ":" + version }},
		"registry and tag": {
			[]string{"--image-registry=registry.example.com/ours", "--image-tag=v7"},
			func(p string) string { return "registry.example.com/ours/" + p + ":v7" },
		},
		"a slash at the end": {
			[]string{"--image-registry", "registry.example.com/", "--image-tag=v7"},
			func(p string) string { return "registry.example.com/" + p + ":v7" },
		},
		"one overridden": {
			[]string{"--image", programs[0] + "=registry.example.com/x@sha256:0123", "--image-tag=v7"},
			func(p string) string {
				if p == programs[0] {
					return "registry.example.com/x@sha256:0123"
				}
				return "docker.io/itechsmart/" + p + ":v7"
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			images := parsed(t, c.args...).controllers.Images
			for _, program := range programs {
				g.Expect(images.Of(program)).To(Equal(c.want(program)))
			}
		})
	}
}

func TestEveryProgramCanBeOverridden(t *testing.T) {
	g := NewWithT(t)
	var args []string
	for _, program := range controllers.Programs() {
		args = append(args, "--image="+program+"=x:"+program)
	}
	images := parsed(t, args...).controllers.Images
	for _, program := range controllers.Programs() {
		g.Expect(images.Of(program)).To(Equal("x:" + program))
	}
	g.Expect(slices.Compact(slices.Sorted(slices.Values(controllers.Programs())))).To(HaveLen(len(controllers.Programs())), "two programs share a name")
}

func TestRefusedFlags(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"unknown program":  {[]string{"--image=nobody=x:1"}, append([]string{`no program "nobody"`}, controllers.Programs()...)},
		"no image":         {[]string{"--image=nobody"}, []string{"want name=image"}},
		"empty image":      {[]string{"--backend-image=kafka="}, []string{"want name=image"}},
		"empty registry":   {[]string{"--image-registry=/"}, []string{"--image-registry"}},
		"empty tag":        {[]string{"--image-tag="}, []string{"--image-tag"}},
		"empty prefix":     {[]string{"--service-role-prefix="}, []string{"--service-role-prefix"}},
		"no workers":       {[]string{"--max-concurrent-reconciles=0"}, []string{"at least 1"}},
		"restless":         {[]string{"--drift-interval=1ms"}, []string{"at least 1s"}},
		"an argument":      {[]string{"start"}, []string{`"start"`}},
		"webhook, no home": {[]string{"--webhook-name=x"}, []string{"POD_NAMESPACE"}},
		"an unknown flag":  {[]string{"--nonsense=x"}, []string{"nonsense"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, err := parse(c.args)
			g.Expect(err).To(HaveOccurred())
			for _, part := range c.says {
				g.Expect(err.Error()).To(ContainSubstring(part))
			}
		})
	}
}

// TestTokenReviewerRole covers who binds services to it: a manager of some namespaces may not.
func TestTokenReviewerRole(t *testing.T) {
	for args, want := range map[string]string{
		"":                           "itechsmart-token-reviewer",
		"--token-reviewer-role=mine": "mine",
		"--namespaces=a,b":           "",
		"--namespaces=a --token-reviewer-role=mine":  "mine",
		"--token-reviewer-role= --namespaces=a":      "",
		"--namespaces=, --service-role-prefix=other": "itechsmart-token-reviewer",
	} {
		t.Run(args, func(t *testing.T) {
			NewWithT(t).Expect(parsed(t, strings.Fields(args)...).controllers.TokenReviewerRole).To(Equal(want))
		})
	}
}

func TestWebhooks(t *testing.T) {
	g := NewWithT(t)
	t.Setenv("POD_NAMESPACE", "system")
	g.Expect(parsed(t).controllers.Webhooks).To(BeNil())
	o := parsed(t, "--webhook-name=hooks")
	g.Expect(o.controllers.Webhooks).NotTo(BeNil())
	g.Expect(o.webhooks.Hosts).To(Equal([]string{"hooks.system.svc"}))
}
