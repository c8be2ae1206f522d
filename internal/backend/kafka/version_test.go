// SPDX-License-Identifier: Apache-2.0

package kafka

import "testing"

func TestRelease(t *testing.T) {
	for level, want := range map[int16]string{
		0: "unknown", 1: "3.1", 7: "3.3", 11: "3.5", 19: "3.7", 25: "4.0", 27: "4.1", 29: "4.2", 30: "4.3", 31: "4.4", 32: "4.4+",
	} {
		if got := release(level); got != want {
			t.Errorf("level %d is %s, want %s", level, got, want)
		}
	}
}

// response is an ApiVersions response of version 3 with one API and the feature
// metadata.version up to 27.
var response = append([]byte{
	0, 0, 0x69, 0x74, 0, 0, // correlation id, no error
	2, 0, 18, 0, 0, 0, 4, 0, // one API
	0, 0, 0, 0, // throttle time
	1, 0, 23, // one tagged field, its tag and size
	2, 17,
}, append([]byte("metadata.version"), 0, 1, 0, 27, 0)...)

func TestMetadataLevel(t *testing.T) {
	if got, err := metadataLevel(response); err != nil || got != 27 {
		t.Errorf("got %d, %v, want 27", got, err)
	}
	if got, err := metadataLevel([]byte{0, 0, 0x69, 0x74, 0, 35}); err != nil || got != 0 {
		t.Errorf("an older broker: got %d, %v, want 0", got, err)
	}
	for n := range len(response) {
		if _, err := metadataLevel(response[:n]); err == nil {
			t.Errorf("the first %d bytes returned no error", n)
		}
	}
}

func FuzzMetadataLevel(f *testing.F) {
	f.Add(response)
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = metadataLevel(data) })
}
