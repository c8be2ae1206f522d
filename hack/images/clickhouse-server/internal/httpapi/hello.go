// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"fmt"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// helloQuery is the first query of clickhouse-go, for the revision of the blocks.
const helloQuery = "SELECT displayName(), version(), revision(), timezone()"

// helloRevision is the revision of the response block: clickhouse-go does not know the server's yet and uses the one that
// it announced.
const helloRevision = 54460

// isHello reports whether the query is helloQuery.
func isHello(sql string) bool {
	return strings.TrimRight(strings.TrimSpace(sql), ";") == helloQuery
}

// helloBlock returns the response. The revision in it is 0, because the library reads and writes only blocks of revision
// 0; the client uses that from then on.
func helloBlock(displayName, version string) ([]byte, error) {
	text := func(s string) *proto.ColStr {
		column := new(proto.ColStr)
		column.Append(s)
		return column
	}
	columns := []proto.InputColumn{
		{Name: "displayName()", Data: text(displayName)},
		{Name: "version()", Data: text(version)},
		{Name: "revision()", Data: &proto.ColUInt32{0}},
		{Name: "timezone()", Data: text("UTC")},
	}
	var buffer proto.Buffer
	block := proto.Block{Info: proto.BlockInfo{BucketNum: -1}, Columns: len(columns), Rows: 1}
	if err := block.EncodeBlock(&buffer, helloRevision, columns); err != nil {
		return nil, fmt.Errorf("encode the hello block: %w", err)
	}
	return buffer.Buf, nil
}
