// SPDX-License-Identifier: Apache-2.0

package material

import (
	"errors"
	"strings"
	"testing"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

func TestGenerate(t *testing.T) {
	for _, c := range []struct {
		g       vault.Generate
		length  int
		charset string
	}{
		{vault.Generate{}, 32, lower + upper + digits},
		{vault.Generate{Length: 8, Charset: "numeric"}, 8, digits},
		{vault.Generate{Length: 4096, Charset: "printable"}, 4096, lower + upper + digits + symbols},
		{vault.Generate{Length: 20, Charset: "hex", Prefix: "sk_"}, 23, digits + "abcdef"},
		{vault.Generate{Length: 300, Charset: "alphabetic"}, 300, lower + upper},
	} {
		v, err := Generate(vault.TypeText, c.g)
		if err != nil {
			t.Fatal(err)
		}
		text := string(v[vault.FieldText])
		if len(text) != c.length || !strings.HasPrefix(text, c.g.Prefix) {
			t.Errorf("%+v: %d characters", c.g, len(text))
		}
		if rest := strings.Trim(text[len(c.g.Prefix):], c.charset); rest != "" {
			t.Errorf("%+v: characters outside of the set: %q", c.g, rest)
		}
		if _, err := Check(vault.TypeText, v); err != nil {
			t.Error(err)
		}
	}
	v, err := Generate(vault.TypeAPIKey, vault.Generate{Charset: "printable", Length: 4096})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(vault.TypeAPIKey, v); err != nil {
		t.Error(err)
	}
}

// TestGenerateIsUniform would detect a modulo bias: of 62 characters, 256 mod 62 = 8 would be a quarter more frequent.
func TestGenerateIsUniform(t *testing.T) {
	for name, charset := range charsets {
		counts := map[byte]int{}
		const rounds = 60
		for range rounds {
			out := make([]byte, MaxLength)
			fill(out, charset)
			for _, b := range out {
				counts[b]++
			}
		}
		expected := float64(rounds*MaxLength) / float64(len(charset))
		chi := 0.0
		for i := range len(charset) {
			d := float64(counts[charset[i]]) - expected
			chi += d * d / expected
		}
		// Far beyond the distribution's tail at up to 93 degrees of freedom; a modulo bias results in over 2,000.
		if chi > 220 {
			t.Errorf("%q: chi-square %.0f", name, chi)
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	for _, c := range []struct {
		kind  string
		g     vault.Generate
		field string
	}{
		{vault.TypeFile, vault.Generate{}, "generate"},
		{vault.TypeCertificate, vault.Generate{}, "generate"},
		{vault.TypeText, vault.Generate{Length: 7}, "generate.length"},
		{vault.TypeText, vault.Generate{Length: -1}, "generate.length"},
		{vault.TypeText, vault.Generate{Length: 4097}, "generate.length"},
		{vault.TypeText, vault.Generate{Charset: "emoji"}, "generate.charset"},
		{vault.TypeText, vault.Generate{Prefix: "a b"}, "generate.prefix"},
		{vault.TypeText, vault.Generate{Prefix: strings.Repeat("a", 65)}, "generate.prefix"},
	} {
		var f *FieldError
		if _, err := Generate(c.kind, c.g); !errors.As(err, &f) || f.Field != c.field {
			t.Errorf("%s %+v: %v, want field %s", c.kind, c.g, err, c.field)
		}
	}
}
