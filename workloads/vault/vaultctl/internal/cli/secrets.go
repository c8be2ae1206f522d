// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/vaultctl/internal/client"
)

func secretPath(path string, more ...string) string {
	out := "/secrets/" + url.PathEscape(path)
	for _, m := range more {
		out += "/" + m
	}
	return out
}

// one runs a command on one path, which is checked before anything is sent.
func (s *settings) one(run func(*cobra.Command, *client.Client, string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := wire.ValidPath(args[0]); err != nil {
			return err
		}
		c, err := s.client()
		if err != nil {
			return err
		}
		return run(cmd, c, args[0])
	}
}

func getCommand(s *settings) *cobra.Command {
	var number int64
	var field, file string
	c := &cobra.Command{
		Use: "get PATH", Short: "Print a secret's value", Args: cobra.ExactArgs(1),
		Long: "Prints one field of the value as it is: the main one, or --field. With -o json all of it.\n" +
			"A File of any size is streamed; with --to-file the file is complete, or is not created.",
		RunE: s.one(func(cmd *cobra.Command, c *client.Client, path string) error {
			query := url.Values{}
			if number != 0 {
				query.Set("version", strconv.FormatInt(number, 10))
			}
			var read wire.Read
			err := c.Call(cmd.Context(), http.MethodGet, secretPath(path, "value"), query, nil, &read)
			var refused *client.Error
			if errors.As(err, &refused) && refused.Code == wire.CodeStreamed && s.output != "json" && (field == "" || field == wire.FieldFile) {
				return whole(cmd, file, func(out io.Writer) error { return c.Stream(cmd.Context(), secretPath(path, "content"), query, out) })
			}
			if err != nil {
				return err
			}
			if s.output == "json" {
				return printJSON(cmd.OutOrStdout(), read)
			}
			name := field
			if name == "" {
				name = wire.MainField(read.Type)
			}
			value, ok := read.Value[name]
			if !ok {
				return fmt.Errorf("the value has no field %q", name)
			}
			return whole(cmd, file, func(out io.Writer) error {
				_, err := out.Write(value)
				return err
			})
		}),
	}
	c.Flags().Int64Var(&number, "version", 0, "version; 0 is the newest")
	c.Flags().StringVar(&file, "to-file", "", "write the value to a file, which only its owner can read")
	c.Flags().StringVar(&field, "field", "", "field of the value: text, file, filename, tls.crt, tls.key, ca.crt, key or id")
	return c
}

func putCommand(s *settings) *cobra.Command {
	var input valueInput
	var checkAndSet int64
	var expires string
	var metadata map[string]string
	c := &cobra.Command{
		Use: "put PATH", Short: "Store a secret, or a new version of it", Args: cobra.ExactArgs(1),
		Long: "Stores a value from the standard input, or from files, as a new secret or a new version.\n" +
			"--cas 0 only creates a new secret; --cas n only when n is the newest version. A File is streamed, however large.",
		Example: "  printf %s \"$PASSWORD\" | vaultctl put db/password\n  vaultctl put web/tls --type Certificate --from-file tls.crt=cert.pem --from-file tls.key=key.pem\n" +
			"  vaultctl put backup/keys --type File --from-file keys.tar",
		RunE: s.one(func(cmd *cobra.Command, c *client.Client, path string) error {
			write := wire.Write{Type: input.typ, Metadata: metadata}
			if expires != "" {
				at, err := time.Parse(time.RFC3339, expires)
				if err != nil {
					return errors.New("--expires must be a time such as 2027-01-31T00:00:00Z")
				}
				write.ExpiresAt = &at
			}
			var out wire.Secret
			if cmd.Flags().Changed("cas") {
				write.CheckAndSet = &checkAndSet
			}
			var err error
			if input.typ == wire.TypeFile {
				err = putFile(cmd, c, path, &input, write, &out)
			} else if write.Value, err = input.read(cmd); err == nil {
				err = put(cmd, c, path, write, &out)
			}
			if err != nil {
				return err
			}
			return s.print(cmd, out, fmt.Sprintf("%s version %d", out.Path, out.Version))
		}),
	}
	input.flags(c)
	c.Flags().Int64Var(&checkAndSet, "cas", 0, "the newest version that you know; 0: there is none")
	c.Flags().StringVar(&expires, "expires", "", "when the value expires (RFC 3339)")
	c.Flags().StringToStringVar(&metadata, "metadata", nil, "key=value of the version; no secrets")
	return c
}

// put adds a new version, or creates the secret if there is none.
func put(cmd *cobra.Command, c *client.Client, path string, write wire.Write, out *wire.Secret) error {
	ctx := cmd.Context()
	create := struct {
		Path string `json:"path"`
		wire.Write
	}{path, write}
	if write.CheckAndSet != nil && *write.CheckAndSet == 0 {
		return c.Call(ctx, http.MethodPost, "/secrets", nil, create, out)
	}
	err := c.Call(ctx, http.MethodPut, secretPath(path), nil, write, out)
	var refused *client.Error
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound && write.CheckAndSet == nil {
		return c.Call(ctx, http.MethodPost, "/secrets", nil, create, out)
	}
	return err
}

// putFile streams a file to the service.
func putFile(cmd *cobra.Command, c *client.Client, path string, input *valueInput, write wire.Write, out *wire.Secret) error {
	in, name, err := input.open(cmd)
	if err != nil {
		return err
	}
	defer in.Close()
	query, header := url.Values{}, http.Header{}
	if name != "" {
		query.Set("filename", name)
	}
	for key, value := range write.Metadata {
		query.Add("metadata", key+"="+value)
	}
	if write.ExpiresAt != nil {
		query.Set("expiresAt", write.ExpiresAt.Format(time.RFC3339))
	}
	switch cas := write.CheckAndSet; {
	case cas == nil:
	case *cas == 0:
		header.Set("If-None-Match", "*")
	default:
		header.Set("If-Match", strconv.Quote(strconv.FormatInt(*cas, 10)))
	}
	return c.Upload(cmd.Context(), secretPath(path, "content"), query, header, in, out)
}

func listCommand(s *settings) *cobra.Command {
	var typ string
	c := &cobra.Command{
		Use: "list [PREFIX]", Short: "List secrets without their values", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			query := url.Values{"limit": {"500"}}
			if len(args) == 1 {
				query.Set("prefix", args[0])
			}
			if typ != "" {
				query.Set("type", typ)
			}
			secrets, err := pages[wire.Secret](cmd, c, "/secrets", query)
			if err != nil {
				return err
			}
			if s.output == "json" {
				return printJSON(cmd.OutOrStdout(), secrets)
			}
			return table(cmd.OutOrStdout(), "PATH\tTYPE\tVERSION\tUPDATED\tEXPIRES", len(secrets), func(i int) string {
				x := secrets[i]
				return fmt.Sprintf("%s\t%s\t%d\t%s\t%s", x.Path, x.Type, x.Version, x.UpdatedAt.Format(time.RFC3339), stamp(x.ExpiresAt))
			})
		},
	}
	c.Flags().StringVar(&typ, "type", "", "only secrets of this type")
	return c
}

// pages follows the cursors of a list.
func pages[T any](cmd *cobra.Command, c *client.Client, path string, query url.Values) ([]T, error) {
	all := []T{}
	for {
		var page wire.Page[T]
		if err := c.Call(cmd.Context(), http.MethodGet, path, query, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("cursor", page.Next)
	}
}

func versionsCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use: "versions PATH", Short: "List the versions of a secret", Args: cobra.ExactArgs(1),
		RunE: s.one(func(cmd *cobra.Command, c *client.Client, path string) error {
			versions, err := pages[wire.Version](cmd, c, secretPath(path, "versions"), url.Values{"limit": {"500"}})
			if err != nil {
				return err
			}
			if s.output == "json" {
				return printJSON(cmd.OutOrStdout(), versions)
			}
			return table(cmd.OutOrStdout(), "VERSION\tSTATE\tCREATED\tBY\tEXPIRES", len(versions), func(i int) string {
				v := versions[i]
				return fmt.Sprintf("%d\t%s\t%s\t%s\t%s", v.Version, v.State, v.CreatedAt.Format(time.RFC3339), v.CreatedBy, stamp(v.ExpiresAt))
			})
		}),
	}
}

func diffCommand(s *settings) *cobra.Command {
	var from, to int64
	c := &cobra.Command{
		Use: "diff PATH", Short: "Show which fields differ between two versions, without their values", Args: cobra.ExactArgs(1),
		RunE: s.one(func(cmd *cobra.Command, c *client.Client, path string) error {
			query := url.Values{"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(to, 10)}}
			var fields []wire.FieldDiff
			if err := c.Call(cmd.Context(), http.MethodGet, secretPath(path, "diff"), query, nil, &fields); err != nil {
				return err
			}
			if s.output == "json" {
				return printJSON(cmd.OutOrStdout(), fields)
			}
			return table(cmd.OutOrStdout(), "FIELD\tCHANGE\tFROM\tTO", len(fields), func(i int) string {
				f := fields[i]
				return fmt.Sprintf("%s\t%s\t%.12s\t%.12s", f.Field, f.Change, f.From, f.To)
			})
		}),
	}
	c.Flags().Int64Var(&from, "from", 0, "older version; 0: the one before --to")
	c.Flags().Int64Var(&to, "to", 0, "newer version; 0: the newest")
	return c
}

func rotateCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use: "rotate PATH", Short: "Add a new version of a generated or issued secret", Args: cobra.ExactArgs(1),
		RunE: s.one(func(cmd *cobra.Command, c *client.Client, path string) error {
			var out wire.Secret
			if err := c.Call(cmd.Context(), http.MethodPost, secretPath(path, "rotate"), nil, nil, &out); err != nil {
				return err
			}
			return s.print(cmd, out, fmt.Sprintf("%s version %d", out.Path, out.Version))
		}),
	}
}

func rollbackCommand(s *settings) *cobra.Command {
	var number int64
	c := &cobra.Command{
		Use: "rollback PATH --version N", Short: "Add a new version with the value of an old one", Args: cobra.ExactArgs(1),
		RunE: s.one(func(cmd *cobra.Command, c *client.Client, path string) error {
			var out wire.Secret
			if err := c.Call(cmd.Context(), http.MethodPost, secretPath(path, "rollback"), nil, map[string]int64{"version": number}, &out); err != nil {
				return err
			}
			return s.print(cmd, out, fmt.Sprintf("%s version %d", out.Path, out.Version))
		}),
	}
	c.Flags().Int64Var(&number, "version", 0, "version whose value is restored")
	_ = c.MarkFlagRequired("version")
	return c
}

func deleteCommand(s *settings) *cobra.Command {
	var destroy bool
	c := &cobra.Command{
		Use: "delete PATH", Short: "Hide all versions of a secret, or destroy them", Args: cobra.ExactArgs(1),
		RunE: s.one(func(cmd *cobra.Command, c *client.Client, path string) error {
			query := url.Values{}
			if destroy {
				query.Set("destroy", "true")
			}
			return c.Call(cmd.Context(), http.MethodDelete, secretPath(path), query, nil, nil)
		}),
	}
	c.Flags().BoolVar(&destroy, "destroy", false, "remove all versions permanently")
	return c
}

// print writes data as JSON, or the text.
func (s *settings) print(cmd *cobra.Command, data any, text string) error {
	if s.output == "json" {
		return printJSON(cmd.OutOrStdout(), data)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

func printJSON(out io.Writer, data any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(data)
}

func table(out io.Writer, header string, rows int, row func(int) string) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if _, err := fmt.Fprintln(w, header); err != nil {
		return err
	}
	for i := range rows {
		if _, err := fmt.Fprintln(w, row(i)); err != nil {
			return err
		}
	}
	return w.Flush()
}

func stamp(at *time.Time) string {
	if at == nil {
		return "-"
	}
	return at.Format(time.RFC3339)
}
