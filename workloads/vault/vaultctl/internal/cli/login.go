// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/itechsmart/operator/workloads/vault/vaultctl/internal/client"
)

func loginCommand(s *settings) *cobra.Command {
	var user string
	c := &cobra.Command{
		Use: "login", Short: "Log in with email address and password", Args: cobra.NoArgs,
		Long: "Logs in, and stores the tokens in the session file, which only its owner can read.\nThe password is read from a terminal, or is the first line of the standard input.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, server, err := s.anonymous()
			if err != nil {
				return err
			}
			if user == "" {
				return errors.New("--user is required")
			}
			password, err := askSecret(cmd, "Password: ")
			if err != nil {
				return err
			}
			token, err := c.Grant(cmd.Context(), url.Values{"grant_type": {"password"}, "username": {user}, "password": {password}})
			if err != nil {
				return fmt.Errorf("log in: %w", err)
			}
			session, err := client.LoadSession(s.session)
			if err != nil {
				return err
			}
			if err := session.Take(server, token); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "logged in to %s as %s\n", server, user)
			return err
		},
	}
	c.Flags().StringVarP(&user, "user", "u", "", "email address")
	return c
}

func logoutCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "Forget the login", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			session, err := client.LoadSession(s.session)
			if err != nil {
				return err
			}
			if session.RefreshToken != "" {
				c, err := client.New(session.Server, nil)
				if err != nil {
					return err
				}
				if err := c.Revoke(cmd.Context(), session.RefreshToken); err != nil {
					fmt.Fprintln(cmd.ErrOrStderr(), "the refresh token was not revoked:", err)
				}
			}
			if err := os.Remove(s.session); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return nil
		},
	}
}

// askSecret prompts on a terminal without echo, or reads the first line of the standard input.
func askSecret(cmd *cobra.Command, prompt string) (string, error) {
	in := cmd.InOrStdin()
	if isTerminal(in) {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		text, err := term.ReadPassword(int(in.(*os.File).Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return string(text), err
	}
	text, err := readAll(in, "the standard input", 64<<10)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", errors.New("the standard input is empty")
	}
	return line, nil
}

func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// trimLine returns a file's text without the newline that editors add.
func trimLine(text []byte) string { return strings.TrimRight(string(text), "\r\n") }
