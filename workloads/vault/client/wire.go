// SPDX-License-Identifier: Apache-2.0

// Package client is the client of the Vault service's REST API. The service and its command line share its wire types.
package client

import "time"

// Types of a secret.
const (
	TypeText        = "Text"
	TypeFile        = "File"
	TypeCertificate = "Certificate"
	TypeAPIKey      = "APIKey"
)

// Keys of a value, by type: Text has FieldText; File has FieldFile and may have FieldFilename; Certificate has
// FieldCertificate and FieldPrivateKey and may have FieldCA; APIKey has FieldKey and may have FieldID. The core Secret
// has the same keys.
const (
	FieldText        = "text"
	FieldFile        = "file"
	FieldFilename    = "filename"
	FieldCertificate = "tls.crt"
	FieldPrivateKey  = "tls.key"
	FieldCA          = "ca.crt"
	FieldKey         = "key"
	FieldID          = "id"
)

const (
	// MaxValueBytes limits a value, all fields together. A File may be larger if its content is streamed.
	MaxValueBytes = 1 << 20
	// CodeStreamed is the error code for a File whose value is too large to be read as a whole.
	CodeStreamed = "streamed"
)

// Value is a secret's content: base64 in JSON.
type Value map[string][]byte

// Secret describes a secret without its value.
type Secret struct {
	Namespace string            `json:"namespace"`
	Path      string            `json:"path"`
	Type      string            `json:"type"`
	Version   int64             `json:"version" doc:"the newest version"`
	Versions  int64             `json:"versions" doc:"how many versions exist, deleted ones included"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	CreatedAt time.Time         `json:"createdAt"`
	UpdatedAt time.Time         `json:"updatedAt"`
	ExpiresAt *time.Time        `json:"expiresAt,omitempty"`
	KeyID     string            `json:"keyID" doc:"the key that the newest version is encrypted under"`
	KeyStale  bool              `json:"keyStale,omitempty" doc:"that key is still wrapped by an older root key"`
	State     string            `json:"state,omitempty" enum:"live,deleted,destroyed" doc:"the newest version's"`
	Size      int64             `json:"size,omitempty" doc:"bytes of the newest version's content, when it is a File over 1 MiB: it is read as a stream"`
}

// States of a version.
const (
	StateLive      = "live"
	StateDeleted   = "deleted"
	StateDestroyed = "destroyed"
)

// Version is one version without its value.
type Version struct {
	Version   int64             `json:"version"`
	CreatedAt time.Time         `json:"createdAt"`
	CreatedBy string            `json:"createdBy"`
	ExpiresAt *time.Time        `json:"expiresAt,omitempty"`
	State     string            `json:"state" enum:"live,deleted,destroyed"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	KeyID     string            `json:"keyID,omitempty"`
	Size      int64             `json:"size,omitempty" doc:"bytes of the content, when it is a File over 1 MiB: it is read as a stream"`
}

// Read is a version with its value.
type Read struct {
	Version
	Type  string `json:"type"`
	Value Value  `json:"value"`
}

// Write is a new version.
type Write struct {
	Type  string `json:"type" enum:"Text,File,Certificate,APIKey"`
	Value Value  `json:"value"`
	// CheckAndSet is the newest version that the writer knows, 0 for none; nil: not checked.
	CheckAndSet *int64            `json:"checkAndSet,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	ExpiresAt   *time.Time        `json:"expiresAt,omitempty"`
}

// Generate describes a random value: of Text and of APIKey.
type Generate struct {
	Length  int    `json:"length,omitempty"`  // 32 when zero
	Charset string `json:"charset,omitempty"` // alphanumeric (default), alphabetic, numeric, hex, printable
	Prefix  string `json:"prefix,omitempty"`
}

// Issue describes a certificate to issue: self-signed, or signed by a CA, which is another secret of type Certificate.
type Issue struct {
	CommonName  string   `json:"commonName,omitempty"`
	DNSNames    []string `json:"dnsNames,omitempty"`
	IPAddresses []string `json:"ipAddresses,omitempty"`
	TTL         string   `json:"ttl,omitempty"`    // a duration; 2160h when empty
	CA          bool     `json:"ca,omitempty"`     // the certificate may sign others
	CAPath      string   `json:"caPath,omitempty"` // the secret whose certificate signs
}

// Apply is the controller's request: the value that a resource declares. It is idempotent: without a new SourceHash or
// Rotation no version is added.
type Apply struct {
	Type     string    `json:"type" enum:"Text,File,Certificate,APIKey"`
	Sealed   string    `json:"sealed,omitempty"`
	Value    Value     `json:"value,omitempty"`
	Generate *Generate `json:"generate,omitempty"`
	Issue    *Issue    `json:"issue,omitempty"`
	// Name is the resource's name; with the namespace, a sealed value is bound to it.
	Name string `json:"name"`
	// SourceHash changes when the declaration does.
	SourceHash string `json:"sourceHash"`
	// Rotation is a token of the controller: a new one adds a version of what is generated or issued.
	Rotation string            `json:"rotation,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Applied is the response: the newest version, and whether it was added by this request.
type Applied struct {
	Secret
	Changed bool `json:"changed"`
}

// FieldDiff describes how one field differs between two versions, without its value.
type FieldDiff struct {
	Field  string `json:"field"`
	Change string `json:"change" enum:"added,removed,changed,same"`
	// From and To are HMACs of the values, under a key of the namespace: equal for equal values.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// SealStatus reports whether values can be read, and the progress of a re-wrap.
type SealStatus struct {
	Sealed    bool   `json:"sealed"`
	Reason    string `json:"reason,omitempty" doc:"why it is sealed, although it unseals itself"`
	KeyID     string `json:"keyID,omitempty" doc:"the root key in use"`
	Threshold int    `json:"threshold,omitempty" doc:"shares that are needed to unseal"`
	Progress  int    `json:"progress,omitempty" doc:"shares submitted so far"`
	// Stale counts the data keys that are still wrapped by an older key; Total counts all.
	Stale int64 `json:"stale"`
	Total int64 `json:"total"`
}

// SealingKey is the public key that values are sealed to.
type SealingKey struct {
	ID string `json:"id"`
	// PublicKey is HPKE's (DHKEM X25519, HKDF-SHA256, AES-256-GCM): 32 bytes, base64.
	PublicKey []byte `json:"publicKey"`
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T `json:"items"`
	// Next is the cursor of the next page; empty on the last page.
	Next string `json:"next,omitempty"`
}
