// SPDX-License-Identifier: Apache-2.0

// Package cli is vaultctl's command line.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/itechsmart/operator/workloads/vault/vaultctl/internal/client"
)

const (
	serverEnv  = "VAULTCTL_SERVER"
	tokenEnv   = "VAULTCTL_TOKEN"
	sessionEnv = "VAULTCTL_SESSION"
)

// Main runs the command line and returns the exit code.
func Main(version string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := Command(version).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "vaultctl:", err)
		return 1
	}
	return 0
}

// settings are the flags that all commands share.
type settings struct {
	server    string
	session   string
	tokenFile string
	output    string
}

// Command returns the command line.
func Command(version string) *cobra.Command {
	s := &settings{}
	root := &cobra.Command{
		Use:   "vaultctl",
		Short: "Seals values for Git, uses a Vault's secrets, verifies its audit log",
		Long: `vaultctl seals values so that they are safe to commit, reads and writes the secrets of
a Vault over REST, and verifies an exported audit log. It needs no kubectl.

Values are read from the standard input or from files, never from an argument, which
other users of the machine could see.`,
		SilenceUsage: true, SilenceErrors: true, Version: version,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&s.server, "server", os.Getenv(serverEnv), "URL of the Vault service ($"+serverEnv+"; that of the last login by default)")
	flags.StringVar(&s.session, "session", defaultSession(), "file that stores the login ($"+sessionEnv+")")
	flags.StringVar(&s.tokenFile, "token-file", "", "file with an access token, such as a ServiceAccount's, in place of a login ($"+tokenEnv+" holds one itself)")
	flags.StringVarP(&s.output, "output", "o", "text", "text or json")
	root.AddCommand(
		loginCommand(s), logoutCommand(s), sealCommand(s), sealingKeyCommand(s),
		getCommand(s), putCommand(s), listCommand(s), versionsCommand(s), diffCommand(s), rotateCommand(s), rollbackCommand(s), deleteCommand(s),
		unsealCommand(s), sealStatusCommand(s), auditCommand(s),
	)
	return root
}

func defaultSession() string {
	if file := os.Getenv(sessionEnv); file != "" {
		return file
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		dir = "."
	}
	return filepath.Join(dir, "vaultctl", "session.json")
}

// client returns a client with the user's token.
func (s *settings) client() (*client.Client, error) {
	session, err := client.LoadSession(s.session)
	if err != nil {
		return nil, err
	}
	server := s.server
	if server == "" {
		server = session.Server
	}
	if server == "" {
		return nil, errors.New("no server: set --server, or run `vaultctl login --server URL`")
	}
	return client.New(server, func(ctx context.Context) (string, error) {
		if s.tokenFile != "" {
			text, err := readBounded(s.tokenFile, 64<<10)
			return trimLine(text), err
		}
		if token := os.Getenv(tokenEnv); token != "" {
			return token, nil
		}
		return session.Token(ctx, server)
	})
}

// anonymous returns a client for what needs no login.
func (s *settings) anonymous() (*client.Client, string, error) {
	session, err := client.LoadSession(s.session)
	if err != nil {
		return nil, "", err
	}
	server := s.server
	if server == "" {
		server = session.Server
	}
	if server == "" {
		return nil, "", errors.New("no server: set --server")
	}
	c, err := client.New(server, nil)
	return c, server, err
}

// whole writes a file completely or not at all; to the standard output if file is empty.
func whole(cmd *cobra.Command, file string, write func(io.Writer) error) error {
	if file == "" {
		return write(cmd.OutOrStdout())
	}
	out, err := os.CreateTemp(filepath.Dir(file), ".vaultctl-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) //nolint:errcheck // it was renamed
	if err = errors.Join(write(out), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), file)
}

// readBounded reads a file of at most limit bytes; "-" is the standard input.
func readBounded(name string, limit int64) ([]byte, error) {
	in := os.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	return readAll(in, name, limit)
}

func readAll(in io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, nil
}
