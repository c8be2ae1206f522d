// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// parseXML turns a document into an object of its root element: attributes become @name, child elements their
// name (an array if there are several), text #text or, alone, the value itself.
func parseXML(text string) (any, error) {
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := decoder.Token()
		if err != nil {
			return nil, errNotXML
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		root, err := xmlElement(decoder, start, 1)
		if err != nil {
			return nil, err
		}
		if err := xmlEnd(decoder); err != nil {
			return nil, err
		}
		return map[string]any{start.Name.Local: root}, nil
	}
}

var errNotXML = errors.New("the text is not valid XML")

// xmlEnd refuses a second root element.
func xmlEnd(decoder *xml.Decoder) error {
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if _, another := token.(xml.StartElement); another || err != nil {
			return errNotXML
		}
	}
}

func xmlElement(decoder *xml.Decoder, start xml.StartElement, depth int) (any, error) {
	if depth > maxNesting {
		return nil, errors.New("the XML is nested too deeply")
	}
	out := map[string]any{}
	for _, attribute := range start.Attr {
		out["@"+attribute.Name.Local] = attribute.Value
	}
	var content strings.Builder
	for {
		token, err := decoder.Token()
		if err != nil {
			return nil, errNotXML
		}
		switch t := token.(type) {
		case xml.StartElement:
			value, err := xmlElement(decoder, t, depth+1)
			if err != nil {
				return nil, err
			}
			addRepeated(out, t.Name.Local, value)
		case xml.CharData:
			content.Write(t)
		case xml.EndElement:
			return xmlValue(out, strings.TrimSpace(content.String())), nil
		}
	}
}

func xmlValue(fields map[string]any, content string) any {
	switch {
	case len(fields) == 0 && content == "":
		return nil
	case len(fields) == 0:
		return content
	case content != "":
		fields["#text"] = content
	}
	return fields
}

// addRepeated collects elements with the same name in an array; nothing else in XML becomes one.
func addRepeated(fields map[string]any, name string, value any) {
	switch current, taken := fields[name]; list := current.(type) {
	case []any:
		fields[name] = append(list, value)
	default:
		if taken {
			fields[name] = []any{current, value}
		} else {
			fields[name] = value
		}
	}
}
