// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	wire "github.com/itechsmart/operator/workloads/vault/client"
)

func unsealCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use: "unseal", Short: "Submit one share of the unseal secret", Args: cobra.NoArgs,
		Long: "Submits one share, which is read from a terminal, or is the first line of the standard input.\nThe Vault unseals once there are enough.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			share, err := askSecret(cmd, "Share: ")
			if err != nil {
				return err
			}
			var status wire.SealStatus
			if err := c.Call(cmd.Context(), http.MethodPost, "/unseal", nil, map[string]string{"share": share}, &status); err != nil {
				return err
			}
			return s.printStatus(cmd, status)
		},
	}
}

func sealStatusCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use: "seal-status", Short: "Show whether values can be read, and the progress of a re-wrap", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := s.anonymous()
			if err != nil {
				return err
			}
			var status wire.SealStatus
			if err := c.Call(cmd.Context(), http.MethodGet, "/seal-status", nil, nil, &status); err != nil {
				return err
			}
			return s.printStatus(cmd, status)
		},
	}
}

func (s *settings) printStatus(cmd *cobra.Command, status wire.SealStatus) error {
	text := fmt.Sprintf("unsealed, key %s, %d of %d data keys wait for a re-wrap", status.KeyID, status.Stale, status.Total)
	if status.Sealed {
		text = fmt.Sprintf("sealed, %d of %d shares submitted", status.Progress, status.Threshold)
		if status.Threshold == 0 && status.Reason != "" {
			text = "sealed: " + status.Reason
		}
	}
	return s.print(cmd, status, text)
}
