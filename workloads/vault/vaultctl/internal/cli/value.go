// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// valueInput is the source of a value. No flag contains a value.
type valueInput struct {
	typ      string
	files    []string
	keepLine bool
}

func (v *valueInput) flags(c *cobra.Command) {
	c.Flags().StringVarP(&v.typ, "type", "t", wire.TypeText, "Text, File, Certificate or APIKey")
	c.Flags().StringArrayVarP(&v.files, "from-file", "f", nil, "file of a field as field=name, or of the main field; - is the standard input")
	c.Flags().BoolVar(&v.keepLine, "keep-newline", false, "keep the newline at the end of a Text or an APIKey")
	_ = c.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(
		[]string{wire.TypeText, wire.TypeFile, wire.TypeCertificate, wire.TypeAPIKey}, cobra.ShellCompDirectiveNoFileComp))
}

// read returns the value: the fields of --from-file, or the main field from the standard input.
func (v *valueInput) read(cmd *cobra.Command) (wire.Value, error) {
	required, optional := wire.Fields(v.typ)
	if required == nil {
		return nil, fmt.Errorf("--type %q is not one of Text, File, Certificate and APIKey", v.typ)
	}
	value := wire.Value{}
	if len(v.files) == 0 {
		if len(required) > 1 {
			return nil, fmt.Errorf("a %s has several fields: pass --from-file for each of %s", v.typ, strings.Join(required, " and "))
		}
		text, err := v.readInput(cmd)
		if err != nil {
			return nil, err
		}
		value[required[0]] = text
		return value, nil
	}
	for _, file := range v.files {
		field, name, named := strings.Cut(file, "=")
		if !named {
			field, name = wire.MainField(v.typ), file
		}
		if !slices.Contains(required, field) && !slices.Contains(optional, field) {
			return nil, fmt.Errorf("a %s has no field %q", v.typ, field)
		}
		if _, twice := value[field]; twice {
			return nil, fmt.Errorf("field %q is given twice", field)
		}
		var text []byte
		var err error
		if name == "-" {
			text, err = readAll(cmd.InOrStdin(), "the standard input", wire.MaxValueBytes)
		} else {
			text, err = readBounded(name, wire.MaxValueBytes)
		}
		if err != nil {
			return nil, err
		}
		value[field] = v.trim(text)
	}
	for _, field := range required {
		if _, ok := value[field]; !ok {
			return nil, fmt.Errorf("a %s needs field %q: --from-file %s=FILE", v.typ, field, field)
		}
	}
	return value, nil
}

// open returns the content of a File as a stream, and the file name given by --from-file filename=FILE.
func (v *valueInput) open(cmd *cobra.Command) (content io.ReadCloser, filename string, err error) {
	source := ""
	for _, file := range v.files {
		field, name, named := strings.Cut(file, "=")
		switch {
		case named && field == wire.FieldFilename && filename == "":
			text, err := readBounded(name, 256)
			if err != nil {
				return nil, "", err
			}
			filename = trimLine(text)
		case named && field != wire.FieldFile:
			return nil, "", fmt.Errorf("a %s has no further field %q", v.typ, field)
		case source != "":
			return nil, "", fmt.Errorf("field %q is given twice", wire.FieldFile)
		case named:
			source = name
		default:
			source = file
		}
	}
	switch {
	case source == "" && isTerminal(cmd.InOrStdin()):
		return nil, "", fmt.Errorf("a %s comes from --from-file, or from the standard input", v.typ)
	case source == "", source == "-":
		return io.NopCloser(cmd.InOrStdin()), filename, nil
	}
	in, err := os.Open(source)
	return in, filename, err
}

func (v *valueInput) readInput(cmd *cobra.Command) ([]byte, error) {
	if isTerminal(cmd.InOrStdin()) {
		text, err := askSecret(cmd, "Value: ")
		return []byte(text), err
	}
	text, err := readAll(cmd.InOrStdin(), "the standard input", wire.MaxValueBytes)
	if err != nil {
		return nil, err
	}
	if text = v.trim(text); len(text) == 0 {
		return nil, errors.New("the standard input is empty")
	}
	return text, nil
}

// trim removes the one newline that `echo` and editors add to a password; a file keeps each byte.
func (v *valueInput) trim(text []byte) []byte {
	if v.keepLine || (v.typ != wire.TypeText && v.typ != wire.TypeAPIKey) {
		return text
	}
	line := strings.TrimSuffix(string(text), "\n")
	return []byte(strings.TrimSuffix(line, "\r"))
}
