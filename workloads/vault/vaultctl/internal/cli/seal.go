// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
	"github.com/itechsmart/operator/workloads/vault/internal/seal"
)

// manifest holds the fields of a Secret resource that `seal` writes. The API's own types would pull in Kubernetes.
type manifest struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Metadata   metadata     `json:"metadata"`
	Spec       manifestSpec `json:"spec"`
}

type metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type manifestSpec struct {
	Type        string       `json:"type"`
	Path        string       `json:"path,omitempty"`
	PlatformRef *reference   `json:"platformRef,omitempty"`
	Source      sealedSource `json:"source"`
	Destination *reference   `json:"destination,omitempty"`
}

type sealedSource struct {
	Sealed string `json:"sealed"`
}

type reference struct {
	Name string `json:"name,omitempty"`
}

var (
	nameForm      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	namespaceForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
)

func sealCommand(s *settings) *cobra.Command {
	var input valueInput
	var namespace, keyFile, path, platform, destination string
	c := &cobra.Command{
		Use: "seal NAME --namespace NAMESPACE", Short: "Encrypt a value for Git: print a Secret resource that is safe to commit", Args: cobra.ExactArgs(1),
		Long: `Encrypts a value to the Vault's public key and prints a whole Secret resource. Only the
Vault can open it, and only for this namespace and name: under another one it is refused.

The key is that of --key (see ` + "`vaultctl sealing-key`" + `), without any connection, or is fetched
from --server. The value comes from the standard input or from files.`,
		Example: "  printf %s \"$PASSWORD\" | vaultctl seal db-password -n shop --key sealing-key.json > db-password.yaml\n" +
			"  vaultctl seal web-tls -n shop -t Certificate -f tls.crt=cert.pem -f tls.key=key.pem --server https://vault.example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if len(name) > 253 || !nameForm.MatchString(name) {
				return errors.New("NAME is not a valid name of a resource")
			}
			if !namespaceForm.MatchString(namespace) {
				return errors.New("--namespace is required: the namespace of the resource")
			}
			if path != "" {
				if err := wire.ValidPath(path); err != nil {
					return fmt.Errorf("--path: %w", err)
				}
			}
			key, err := s.sealingKey(cmd.Context(), keyFile)
			if err != nil {
				return err
			}
			value, err := input.read(cmd)
			if err != nil {
				return err
			}
			// A value that the Vault would refuse is refused here, before it is committed.
			if _, err := material.Check(input.typ, value); err != nil {
				return err
			}
			sealed, err := seal.Seal(key.PublicKey, seal.Binding{Namespace: namespace, Name: name}, value)
			if err != nil {
				return err
			}
			m := manifest{
				APIVersion: "vault.itechsmart.dev/v1alpha1", Kind: "Secret", Metadata: metadata{name, namespace},
				Spec: manifestSpec{Type: input.typ, Path: path, Source: sealedSource{sealed}},
			}
			if platform != "" {
				m.Spec.PlatformRef = &reference{platform}
			}
			if cmd.Flags().Changed("destination") {
				m.Spec.Destination = &reference{destination}
			}
			if s.output == "json" {
				return printJSON(cmd.OutOrStdout(), m)
			}
			text, err := yaml.Marshal(m)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	input.flags(c)
	flags := c.Flags()
	flags.StringVarP(&namespace, "namespace", "n", "", "namespace of the resource")
	flags.StringVar(&keyFile, "key", "", "file with the public key; fetched from --server by default")
	flags.StringVar(&path, "path", "", "path of the value; the name by default")
	flags.StringVar(&platform, "platform", "", "Platform whose Vault stores the value; the only one of the namespace by default")
	flags.StringVar(&destination, "destination", "", "core Secret that is created for workloads; an empty name means that of the resource")
	return c
}

// sealingKey reads the key from a file, or fetches it from the service.
func (s *settings) sealingKey(ctx context.Context, file string) (wire.SealingKey, error) {
	var key wire.SealingKey
	if file == "" {
		c, _, err := s.anonymous()
		if err != nil {
			return key, fmt.Errorf("no key: set --key, or --server: %w", err)
		}
		if err := c.Call(ctx, http.MethodGet, "/sealing-key", nil, nil, &key); err != nil {
			return key, err
		}
	} else {
		data, err := readBounded(file, 64<<10)
		if err != nil {
			return key, err
		}
		if json.Unmarshal(data, &key) != nil {
			if key.PublicKey, err = base64.StdEncoding.DecodeString(trimLine(data)); err != nil {
				return key, fmt.Errorf("%s contains no sealing key", file)
			}
		}
	}
	if len(key.PublicKey) != seal.KeyBytes {
		return key, fmt.Errorf("the sealing key has %d bytes, want %d", len(key.PublicKey), seal.KeyBytes)
	}
	// A key with another key's id was assembled by hand, or modified in transit.
	if id := seal.KeyID(key.PublicKey); key.ID != "" && key.ID != id {
		return key, fmt.Errorf("the sealing key does not match its id %s", key.ID)
	}
	return key, nil
}

func sealingKeyCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use: "sealing-key", Short: "Print the public key that values are sealed to", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := s.sealingKey(cmd.Context(), "")
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), key)
		},
	}
}
