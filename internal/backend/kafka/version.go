// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
)

// releases maps the highest metadata.version that a broker supports to its release
// (org.apache.kafka.server.common.MetadataVersion).
var releases = []struct {
	level   int16
	release string
}{
	{31, "4.4"}, {30, "4.3"}, {28, "4.2"}, {26, "4.1"}, {22, "4.0"}, {21, "3.9"}, {20, "3.8"},
	{15, "3.7"}, {12, "3.6"}, {9, "3.5"}, {8, "3.4"}, {4, "3.3"}, {2, "3.2"}, {1, "3.1"},
}

// latestLevel is the highest metadata.version that this table was checked with.
const latestLevel = 31

// unknownVersion is the version of a broker that does not report its features.
const unknownVersion = "unknown"

// release returns the release whose highest metadata.version is level.
func release(level int16) string {
	if level > latestLevel {
		return releases[0].release + "+"
	}
	for _, r := range releases {
		if level >= r.level {
			return r.release
		}
	}
	return unknownVersion
}

// features requests ApiVersions in version 3, the first that includes a broker's features; kafka-go supports up
// to version 2. It is a raw exchange on a connection that has logged in.
type features struct{ level int16 }

// ApiKey implements protocol.Message.
func (*features) ApiKey() protocol.ApiKey { return protocol.ApiVersions }

// Required implements protocol.RawExchanger.
func (*features) Required(map[protocol.ApiKey]int16) bool { return true }

const (
	featuresVersion     = 3
	featuresCorrelation = 0x6974
	maxFeaturesResponse = 1 << 20
	// supportedFeatures is the response's tagged field with the features.
	supportedFeatures = 0
)

// RawExchange implements protocol.RawExchanger.
func (f *features) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	var body []byte
	body = binary.BigEndian.AppendUint16(body, uint16(protocol.ApiVersions))
	body = binary.BigEndian.AppendUint16(body, featuresVersion)
	body = binary.BigEndian.AppendUint32(body, featuresCorrelation)
	body = binary.BigEndian.AppendUint16(body, uint16(len(clientID)))
	body = append(append(body, clientID...), 0) // no tagged fields in the header
	body = append(append(body, byte(len(clientID)+1)), clientID...)
	body = append(append(body, 2), '1') // the client software's version
	body = append(body, 0)
	if _, err := rw.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		return nil, err
	}
	var size uint32
	if err := binary.Read(rw, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	if size > maxFeaturesResponse {
		return nil, fmt.Errorf("an ApiVersions response of %d bytes", size)
	}
	response := make([]byte, size)
	if _, err := io.ReadFull(rw, response); err != nil {
		return nil, err
	}
	level, err := metadataLevel(response)
	if err != nil {
		return nil, err
	}
	return &features{level: level}, nil
}

var errShort = errors.New("the ApiVersions response ends early")

// metadataLevel returns metadata.version of the supported features in an ApiVersions response of version 3; 0
// if the broker does not report it.
func metadataLevel(response []byte) (int16, error) {
	r := &reader{Reader: bytes.NewReader(response)}
	r.skip(4) // correlation id
	if code := r.int16(); r.err == nil && code != 0 {
		return 0, nil // answered in version 0: an older broker
	}
	for n := r.uvarint(); n > 1 && r.err == nil; n-- {
		r.skip(6) // key, lowest and highest version
		r.tags(nil)
	}
	r.skip(4) // throttle time
	var level int16
	r.tags(func(tag uint64, value *reader) {
		if tag != supportedFeatures {
			return
		}
		for n := value.uvarint(); n > 1 && value.err == nil; n-- {
			name := value.bytes(value.uvarint() - 1)
			value.skip(2)
			highest := value.int16()
			value.tags(nil)
			if string(name) == "metadata.version" {
				level = highest
			}
		}
		r.err = errors.Join(r.err, value.err)
	})
	return level, r.err
}

// reader reads Kafka's compact types and keeps the first error.
type reader struct {
	*bytes.Reader
	err error
}

func (r *reader) bytes(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(r.Len()) {
		r.err = errShort
		return nil
	}
	out := make([]byte, n)
	_, r.err = io.ReadFull(r.Reader, out)
	return out
}

func (r *reader) skip(n uint64) { r.bytes(n) }

func (r *reader) int16() int16 {
	if b := r.bytes(2); len(b) == 2 {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(r.Reader)
	r.err = err
	return n
}

// tags reads the tagged fields and passes each to visit.
func (r *reader) tags(visit func(tag uint64, value *reader)) {
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		tag := r.uvarint()
		value := r.bytes(r.uvarint())
		if visit != nil && r.err == nil {
			visit(tag, &reader{Reader: bytes.NewReader(value)})
		}
	}
}
