// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/itechsmart/operator/workloads/internal/audit"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

func auditCommand(s *settings) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Export and verify the audit log"}
	c.AddCommand(auditVerifyCommand(s), auditExportCommand(s), auditKeyCommand(s), auditListCommand(s))
	return c
}

func auditVerifyCommand(s *settings) *cobra.Command {
	var keyFile string
	c := &cobra.Command{
		Use: "verify FILE --key KEYFILE", Short: "Verify an exported audit log, without a server", Args: cobra.ExactArgs(1),
		Long: `Checks each hash, the order and each signature of an export (JSON lines; - is the standard
input), and names the first line that was changed, removed or swapped. The key is what
` + "`vaultctl audit key`" + ` printed; store it where those who can write to the database cannot change it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := readAuditKey(keyFile)
			if err != nil {
				return err
			}
			in := os.Stdin
			if args[0] != "-" {
				if in, err = os.Open(args[0]); err != nil {
					return err
				}
				defer in.Close()
			}
			report, err := audit.Verify(in, key)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return s.print(cmd, report, fmt.Sprintf("%d events, %d to %d, verified; the last signature is of %s",
				report.Events, report.First, report.Last, report.SignedAt.Format(time.RFC3339)))
		},
	}
	c.Flags().StringVar(&keyFile, "key", "", "file of `vaultctl audit key`")
	_ = c.MarkFlagRequired("key")
	return c
}

// auditKey is the response of GET /audit/key.
type auditKey struct {
	ID        string `json:"id"`
	PublicKey []byte `json:"publicKey"`
}

// readAuditKey reads the service's response, or the key's base64 alone.
func readAuditKey(file string) (ed25519.PublicKey, error) {
	data, err := readBounded(file, 64<<10)
	if err != nil {
		return nil, err
	}
	var k auditKey
	if json.Unmarshal(data, &k) != nil {
		k.PublicKey, err = base64.StdEncoding.DecodeString(trimLine(data))
	}
	if err != nil || len(k.PublicKey) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%s contains no Ed25519 public key", file)
	}
	return k.PublicKey, nil
}

func auditExportCommand(s *settings) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "export", Short: "Write the audit log as JSON lines, for the verifier", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			return whole(cmd, file, func(out io.Writer) error { return c.Stream(cmd.Context(), "/audit/export", nil, out) })
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "write to a file instead")
	return c
}

func auditKeyCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "Print the public key that verifies the audit log", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			var key auditKey
			if err := c.Call(cmd.Context(), http.MethodGet, "/audit/key", nil, nil, &key); err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), key)
		},
	}
}

func auditListCommand(s *settings) *cobra.Command {
	var user, action, object, since, until string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "Show the newest events", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			query := url.Values{"limit": {fmt.Sprint(limit)}}
			for key, value := range map[string]string{"user": user, "action": action, "object": object, "since": since, "until": until} {
				if value != "" {
					query.Set(key, value)
				}
			}
			var page wire.Page[audit.Entry]
			if err := c.Call(cmd.Context(), http.MethodGet, "/audit", query, nil, &page); err != nil {
				return err
			}
			if s.output == "json" {
				return printJSON(cmd.OutOrStdout(), page.Items)
			}
			return table(cmd.OutOrStdout(), "TIME\tUSER\tACTION\tOBJECT\tOUTCOME\tIP", len(page.Items), func(i int) string {
				e := page.Items[i]
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", e.Time.Format(time.RFC3339), e.User, e.Action, e.Object, e.Outcome, e.IP)
			})
		},
	}
	c.Flags().StringVar(&user, "user", "", "only of this user")
	c.Flags().StringVar(&action, "action", "", "only this action, such as secret.read; secret.* is a prefix")
	c.Flags().StringVar(&object, "object", "", "only this object; secret/db/* is a prefix")
	c.Flags().StringVar(&since, "since", "", "from this time on (RFC 3339)")
	c.Flags().StringVar(&until, "until", "", "before this time (RFC 3339)")
	c.Flags().IntVar(&limit, "limit", 50, "how many")
	return c
}
