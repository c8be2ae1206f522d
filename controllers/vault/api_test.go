// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
)

func every(d time.Duration) *vaultv1alpha1.Rotation {
	return &vaultv1alpha1.Rotation{Interval: metav1.Duration{Duration: d}}
}

func fieldRefs(fields ...string) vaultv1alpha1.Source {
	from := &vaultv1alpha1.ValueFrom{}
	for _, field := range fields {
		from.SecretKeyRefs = append(from.SecretKeyRefs, vaultv1alpha1.FieldReference{Field: field, SecretKeyReference: vaultv1alpha1.SecretKeyReference{Name: "a", Key: field}})
	}
	return vaultv1alpha1.Source{ValueFrom: from}
}

func oneRef() vaultv1alpha1.Source {
	return vaultv1alpha1.Source{ValueFrom: &vaultv1alpha1.ValueFrom{SecretKeyRef: &vaultv1alpha1.SecretKeyReference{Name: "a", Key: "b"}}}
}

func issued(ttl time.Duration) vaultv1alpha1.Source {
	return vaultv1alpha1.Source{Issue: &vaultv1alpha1.Issue{DNSNames: []string{"a.example.com"}, TTL: metav1.Duration{Duration: ttl}}}
}

type apiCase struct {
	change func(*vaultv1alpha1.SecretSpec)
	says   string // "" means accepted
}

// apiCases has an accept and a reject case for each rule of the Secret's schema.
var apiCases = map[string]apiCase{
	"plain":         {func(*vaultv1alpha1.SecretSpec) {}, ""},
	"type":          {func(s *vaultv1alpha1.SecretSpec) { s.Type = "Password" }, "spec.type"},
	"path":          {func(s *vaultv1alpha1.SecretSpec) { s.Path = "db/pass_word-1.txt" }, ""},
	"path up":       {func(s *vaultv1alpha1.SecretSpec) { s.Path = "db/../password" }, "spec.path"},
	"path absolute": {func(s *vaultv1alpha1.SecretSpec) { s.Path = "/db" }, "spec.path"},
	"path upper":    {func(s *vaultv1alpha1.SecretSpec) { s.Path = "DB" }, "spec.path"},
	"path long":     {func(s *vaultv1alpha1.SecretSpec) { s.Path = strings.Repeat("a", 254) }, "spec.path"},
	"no source":     {func(s *vaultv1alpha1.SecretSpec) { s.Source = vaultv1alpha1.Source{} }, "spec.source"},
	"two sources":   {func(s *vaultv1alpha1.SecretSpec) { s.Source.Sealed = "x" }, "exactly one of"},
	"sealed":        {func(s *vaultv1alpha1.SecretSpec) { s.Source = vaultv1alpha1.Source{Sealed: "x"} }, ""},
	"external": {func(s *vaultv1alpha1.SecretSpec) {
		s.Source = vaultv1alpha1.Source{External: &vaultv1alpha1.External{Path: "a/b"}}
	}, ""},
	"external path": {func(s *vaultv1alpha1.SecretSpec) {
		s.Source = vaultv1alpha1.Source{External: &vaultv1alpha1.External{Path: "../b"}}
	}, "spec.source.external.path"},
	"generate length":     {func(s *vaultv1alpha1.SecretSpec) { s.Source.Generate.Length = 4 }, "spec.source.generate.length"},
	"generate charset":    {func(s *vaultv1alpha1.SecretSpec) { s.Source.Generate.Charset = "emoji" }, "spec.source.generate.charset"},
	"generate prefix":     {func(s *vaultv1alpha1.SecretSpec) { s.Source.Generate.Prefix = "sk_live_" }, ""},
	"generate prefix bad": {func(s *vaultv1alpha1.SecretSpec) { s.Source.Generate.Prefix = "a\nb" }, "spec.source.generate.prefix"},
	"generate an API key": {func(s *vaultv1alpha1.SecretSpec) { s.Type = "APIKey" }, ""},
	"generate a file":     {func(s *vaultv1alpha1.SecretSpec) { s.Type = "File" }, "generate makes a Text or an APIKey"},
	"issue":               {func(s *vaultv1alpha1.SecretSpec) { s.Type, s.Source = "Certificate", issued(time.Hour) }, ""},
	"issue a text":        {func(s *vaultv1alpha1.SecretSpec) { s.Source = issued(time.Hour) }, "issue makes a Certificate"},
	"issue for nobody": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", vaultv1alpha1.Source{Issue: &vaultv1alpha1.Issue{CA: true}}
	}, "dnsNames or ipAddresses must be set"},
	"issue a CA": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", vaultv1alpha1.Source{Issue: &vaultv1alpha1.Issue{CA: true, CommonName: "Internal CA"}}
	}, ""},
	"issue for a common name": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", vaultv1alpha1.Source{Issue: &vaultv1alpha1.Issue{CommonName: "a"}}
	}, "dnsNames or ipAddresses must be set"},
	"issue for too many": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", issued(time.Hour)
		for i := range 100 {
			s.Source.Issue.DNSNames = append(s.Source.Issue.DNSNames[:i], fmt.Sprintf("a%d.example.com", i))
		}
		s.Source.Issue.IPAddresses = []string{"10.0.0.1"}
	}, "over 100 entries together"},
	"issue for a long label": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", issued(time.Hour)
		s.Source.Issue.DNSNames = []string{strings.Repeat("a", 64) + ".example.com"}
	}, "dnsNames"},
	"issue for no ASCII": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", issued(time.Hour)
		s.Source.Issue.CommonName = "Zoë"
	}, "commonName"},
	"issue short": {func(s *vaultv1alpha1.SecretSpec) { s.Type, s.Source = "Certificate", issued(time.Minute) }, "ttl is from"},
	"issue long":  {func(s *vaultv1alpha1.SecretSpec) { s.Type, s.Source = "Certificate", issued(100000*time.Hour) }, "ttl is from"},
	"issue IP": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", issued(time.Hour)
		s.Source.Issue.IPAddresses = []string{"::1", "10.0.0.1"}
	}, ""},
	"issue no IP": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", issued(time.Hour)
		s.Source.Issue.IPAddresses = []string{"10.0.0.999"}
	}, "ipAddresses are"},
	"issue DNS": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", issued(time.Hour)
		s.Source.Issue.DNSNames = []string{"*.example.com"}
	}, ""},
	"issue no DNS": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", issued(time.Hour)
		s.Source.Issue.DNSNames = []string{"a b"}
	}, "dnsNames"},
	"rotation": {func(s *vaultv1alpha1.SecretSpec) { s.Rotation = every(time.Hour) }, ""},
	"rotation of sealed": {func(s *vaultv1alpha1.SecretSpec) {
		s.Source, s.Rotation = vaultv1alpha1.Source{Sealed: "x"}, every(time.Hour)
	}, "rotation needs"},
	"rotation of external": {func(s *vaultv1alpha1.SecretSpec) {
		s.Source, s.Rotation = vaultv1alpha1.Source{External: &vaultv1alpha1.External{}}, every(time.Hour)
	}, "rotation needs"},
	"rotation fast": {func(s *vaultv1alpha1.SecretSpec) { s.Rotation = every(time.Second) }, "interval is from"},
	"rotation slow": {func(s *vaultv1alpha1.SecretSpec) { s.Rotation = every(100000 * time.Hour) }, "interval is from"},
	"rotation in time": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source, s.Rotation = "Certificate", issued(2*time.Hour), every(time.Hour)
	}, ""},
	"rotation too late": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source, s.Rotation = "Certificate", issued(time.Hour), every(2*time.Hour)
	}, "before it expires"},
	"jitter":               {func(s *vaultv1alpha1.SecretSpec) { s.Rotation = every(time.Hour); s.Rotation.Jitter = "50%" }, ""},
	"jitter too much":      {func(s *vaultv1alpha1.SecretSpec) { s.Rotation = every(time.Hour); s.Rotation.Jitter = "51%" }, "spec.rotation.jitter"},
	"threshold":            {func(s *vaultv1alpha1.SecretSpec) { s.ExpiryThreshold.Duration = time.Second }, "expiryThreshold is from"},
	"copy one":             {func(s *vaultv1alpha1.SecretSpec) { s.Source = oneRef() }, ""},
	"copy one certificate": {func(s *vaultv1alpha1.SecretSpec) { s.Type, s.Source = "Certificate", oneRef() }, "use secretKeyRefs"},
	"copy nothing": {func(s *vaultv1alpha1.SecretSpec) {
		s.Source = vaultv1alpha1.Source{ValueFrom: &vaultv1alpha1.ValueFrom{}}
	}, "exactly one of secretKeyRef"},
	"copy both": {func(s *vaultv1alpha1.SecretSpec) {
		s.Source = fieldRefs("text")
		s.Source.ValueFrom.SecretKeyRef = oneRef().ValueFrom.SecretKeyRef
	}, "exactly one of secretKeyRef"},
	"copy text": {func(s *vaultv1alpha1.SecretSpec) { s.Source = fieldRefs("text") }, ""},
	"copy file": {func(s *vaultv1alpha1.SecretSpec) { s.Type, s.Source = "File", fieldRefs("file", "filename") }, ""},
	"copy certificate": {func(s *vaultv1alpha1.SecretSpec) {
		s.Type, s.Source = "Certificate", fieldRefs("tls.crt", "tls.key", "ca.crt")
	}, ""},
	"copy API key":        {func(s *vaultv1alpha1.SecretSpec) { s.Type, s.Source = "APIKey", fieldRefs("key", "id") }, ""},
	"copy half":           {func(s *vaultv1alpha1.SecretSpec) { s.Type, s.Source = "Certificate", fieldRefs("tls.crt") }, "required fields are"},
	"copy other":          {func(s *vaultv1alpha1.SecretSpec) { s.Source = fieldRefs("text", "key") }, "fields are, by type"},
	"copy unknown":        {func(s *vaultv1alpha1.SecretSpec) { s.Source = fieldRefs("password") }, "secretKeyRefs"},
	"copy twice":          {func(s *vaultv1alpha1.SecretSpec) { s.Source = fieldRefs("text", "text") }, "Duplicate value"},
	"version":             {func(s *vaultv1alpha1.SecretSpec) { s.Version = 3 }, ""},
	"version negative":    {func(s *vaultv1alpha1.SecretSpec) { s.Version = -1 }, "spec.version"},
	"version for nothing": {func(s *vaultv1alpha1.SecretSpec) { s.Version, s.Destination = 3, nil }, "version is what the destination gets"},
	"refresh": {func(s *vaultv1alpha1.SecretSpec) {
		s.Refresh = vaultv1alpha1.Refresh{Policy: "Periodic", Interval: &metav1.Duration{Duration: time.Minute}}
	}, ""},
	"refresh policy": {func(s *vaultv1alpha1.SecretSpec) { s.Refresh.Policy = "Never" }, "spec.refresh.policy"},
	"refresh needless": {func(s *vaultv1alpha1.SecretSpec) {
		s.Refresh = vaultv1alpha1.Refresh{Policy: "OnChange", Interval: &metav1.Duration{Duration: time.Minute}}
	}, "interval is for policy Periodic"},
	"refresh fast": {func(s *vaultv1alpha1.SecretSpec) {
		s.Refresh = vaultv1alpha1.Refresh{Policy: "Periodic", Interval: &metav1.Duration{Duration: time.Second}}
	}, "interval is from"},
	"label": {func(s *vaultv1alpha1.SecretSpec) {
		s.Destination.Labels = map[string]vaultv1alpha1.LabelValue{"team": "a"}
	}, ""},
	"label of ours": {func(s *vaultv1alpha1.SecretSpec) {
		s.Destination.Labels = map[string]vaultv1alpha1.LabelValue{"itechsmart.dev/owner-name": "a"}
	}, "are the operator's"},
	"label managed": {func(s *vaultv1alpha1.SecretSpec) {
		s.Destination.Labels = map[string]vaultv1alpha1.LabelValue{"app.kubernetes.io/managed-by": "a"}
	}, "are the operator's"},
	"label value": {func(s *vaultv1alpha1.SecretSpec) {
		s.Destination.Labels = map[string]vaultv1alpha1.LabelValue{"team": "a b"}
	}, "spec.destination.labels"},
	"destination name": {func(s *vaultv1alpha1.SecretSpec) { s.Destination.Name = "A" }, "spec.destination.name"},
	"restart": {func(s *vaultv1alpha1.SecretSpec) {
		s.RestartTargets = []vaultv1alpha1.WorkloadReference{{Kind: "DaemonSet", Name: "a"}}
	}, ""},
	"restart a pod": {func(s *vaultv1alpha1.SecretSpec) {
		s.RestartTargets = []vaultv1alpha1.WorkloadReference{{Kind: "Pod", Name: "a"}}
	}, "spec.restartTargets[0].kind"},
	"restart for nothing": {func(s *vaultv1alpha1.SecretSpec) {
		s.RestartTargets, s.Destination = []vaultv1alpha1.WorkloadReference{{Kind: "Deployment", Name: "a"}}, nil
	}, "restartTargets need a destination"},
	"deletion": {func(s *vaultv1alpha1.SecretSpec) { s.DeletionPolicy = "Maybe" }, "spec.deletionPolicy"},
}

func TestAPI(t *testing.T) {
	c, _ := ctrltest.Env(t)
	namespace := ctrltest.Namespace(t)
	for name, test := range apiCases {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := generated(namespace, "")
			s.GenerateName = "api-"
			test.change(&s.Spec)
			err := c.Create(t.Context(), s)
			if test.says == "" {
				g.Expect(err).NotTo(HaveOccurred())
				return
			}
			g.Expect(err).To(MatchError(ContainSubstring(test.says)))
		})
	}
}

func TestAPIImmutable(t *testing.T) {
	g := NewWithT(t)
	c, _ := ctrltest.Env(t)
	namespace := ctrltest.Namespace(t)
	s := generated(namespace, "immutable")
	g.Expect(c.Create(t.Context(), s)).To(Succeed())
	for says, change := range map[string]func(*vaultv1alpha1.SecretSpec){
		"spec.type":             func(s *vaultv1alpha1.SecretSpec) { s.Type = "APIKey" },
		"spec.path":             func(s *vaultv1alpha1.SecretSpec) { s.Path = "other" },
		"spec.destination.type": func(s *vaultv1alpha1.SecretSpec) { s.Destination.Type = "other" },
	} {
		changed := s.DeepCopy()
		change(&changed.Spec)
		g.Expect(c.Update(t.Context(), changed)).To(MatchError(ContainSubstring(says)))
	}
	s.Spec.Source, s.Spec.Destination.Name, s.Spec.Destination.Type = vaultv1alpha1.Source{Sealed: "x"}, "renamed", "other"
	g.Expect(c.Update(t.Context(), s)).To(Succeed())
}

// TestAPIHasNoPlainValue: what looks like a value in plain text has no field that takes it.
func TestAPIHasNoPlainValue(t *testing.T) {
	g := NewWithT(t)
	c, _ := ctrltest.Env(t)
	strict := client.WithFieldValidation(c, metav1.FieldValidationStrict)
	for _, source := range []map[string]any{
		{"value": "x"}, {"data": map[string]any{"text": "x"}}, {"stringData": map[string]any{"text": "x"}}, {"generate": map[string]any{"value": "x"}},
		{"valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "a", "key": "b", "namespace": "elsewhere"}}},
	} {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "vault.itechsmart.dev/v1alpha1", "kind": "Secret", "metadata": map[string]any{"name": "plain", "namespace": ctrltest.Namespace(t)},
			"spec": map[string]any{"type": "Text", "source": source},
		}}
		g.Expect(strict.Create(t.Context(), u)).To(MatchError(ContainSubstring("unknown field")))
	}
}

func TestPolicyAPI(t *testing.T) {
	c, _ := ctrltest.Env(t)
	namespace := ctrltest.Namespace(t)
	for name, test := range map[string]struct {
		change func(*vaultv1alpha1.AccessPolicySpec)
		says   string
	}{
		"plain":         {func(*vaultv1alpha1.AccessPolicySpec) {}, ""},
		"deny":          {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].Effect = "Deny" }, ""},
		"effect":        {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].Effect = "Maybe" }, "spec.rules[0].effect"},
		"verb":          {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].Verbs = []vaultv1alpha1.Verb{"own"} }, "spec.rules[0].verbs"},
		"any verb":      {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].Verbs = []vaultv1alpha1.Verb{"*"} }, ""},
		"no verbs":      {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].Verbs = nil }, "spec.rules[0].verbs"},
		"no rules":      {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules = nil }, "spec.rules"},
		"no subjects":   {func(s *vaultv1alpha1.AccessPolicySpec) { s.Subjects = nil }, "spec.subjects"},
		"subject":       {func(s *vaultv1alpha1.AccessPolicySpec) { s.Subjects[0].Kind = "Group" }, "spec.subjects[0].kind"},
		"any subject":   {func(s *vaultv1alpha1.AccessPolicySpec) { s.Subjects[0] = vaultv1alpha1.Subject{Kind: "*", Name: "*"} }, ""},
		"subject twice": {func(s *vaultv1alpha1.AccessPolicySpec) { s.Subjects = append(s.Subjects, s.Subjects[0]) }, "Duplicate value"},
		"globs": {func(s *vaultv1alpha1.AccessPolicySpec) {
			s.Rules[0].Paths = []string{"**", "*", "a/*/b", "a*b/c-*", "users/{{principal.id}}/**"}
		}, ""},
		"glob joined":    {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].Paths = []string{"a**"} }, "spec.rules[0].paths"},
		"glob braces":    {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].Paths = []string{"{{principal.password}}"} }, "spec.rules[0].paths"},
		"glob empty":     {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].Paths = []string{"a//b"} }, "spec.rules[0].paths"},
		"glob absolute":  {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].Paths = []string{"/a"} }, "spec.rules[0].paths"},
		"condition long": {func(s *vaultv1alpha1.AccessPolicySpec) { s.Rules[0].When = strings.Repeat("x", 3000) }, "spec.rules[0].when"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			p := &vaultv1alpha1.AccessPolicy{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "api-"},
				Spec: vaultv1alpha1.AccessPolicySpec{
					Subjects: []vaultv1alpha1.Subject{{Kind: "User", Name: "a@example.com"}},
					Rules:    []vaultv1alpha1.PolicyRule{{Paths: []string{"a/b"}, Verbs: []vaultv1alpha1.Verb{"read"}}},
				},
			}
			test.change(&p.Spec)
			err := c.Create(t.Context(), p)
			if test.says == "" {
				g.Expect(err).NotTo(HaveOccurred())
				return
			}
			g.Expect(err).To(MatchError(ContainSubstring(test.says)))
		})
	}
}
