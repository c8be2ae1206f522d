// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestField checks FIPS 197's {57}·{83}={c1} and {57}·{13}={fe}; the rest follows from the field's laws, for all
// elements.
func TestField(t *testing.T) {
	for _, c := range [][3]byte{{0x57, 0x83, 0xc1}, {0x57, 0x13, 0xfe}, {0x53, 0xca, 0x01}, {0x02, 0x80, 0x1b}} {
		if got := multiply(c[0], c[1]); got != c[2] {
			t.Errorf("%02x times %02x is %02x, want %02x", c[0], c[1], got, c[2])
		}
	}
	for a := range 256 {
		for b := range 256 {
			if x, y := multiply(byte(a), byte(b)), long(a, b); x != y {
				t.Fatalf("%02x times %02x is %02x, long multiplication gives %02x", a, b, x, y)
			}
		}
		if got := multiply(byte(a), invert(byte(a))); a != 0 && got != 1 {
			t.Errorf("%02x times its inverse is %02x", a, got)
		}
	}
	if invert(0) != 0 {
		t.Error("0 has no inverse; want 0")
	}
}

// long multiplies polynomials and reduces the product, the slow way.
func long(a, b int) byte {
	product := 0
	for i := range 8 {
		if b>>i&1 == 1 {
			product ^= a << i
		}
	}
	for i := 15; i >= 8; i-- {
		if product>>i&1 == 1 {
			product ^= 0x11b << (i - 8)
		}
	}
	return byte(product)
}

// TestCombineVector uses the test case of draft-mcgrew-tss-03: two of two shares of "test" and a zero byte.
func TestCombineVector(t *testing.T) {
	shares := []Share{{Threshold: 2, X: 1}, {Threshold: 2, X: 2}}
	for i, text := range []string{"B9FA07E185", "F5409B4511"} {
		y, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		shares[i].Y = y
	}
	secret, err := Combine(shares)
	if err != nil || !bytes.Equal(secret, []byte("test\x00")) {
		t.Errorf("got %x, %v", secret, err)
	}
}

func TestSplitAndCombine(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		total := 2 + random.IntN(30)
		threshold := 2 + random.IntN(total-1)
		secret := make([]byte, 1+random.IntN(64))
		for i := range secret {
			secret[i] = byte(random.Uint32())
		}
		shares, err := Split(secret, total, threshold)
		if err != nil {
			t.Fatal(err)
		}
		random.Shuffle(total, func(i, j int) { shares[i], shares[j] = shares[j], shares[i] })
		for n := threshold; n <= total; n++ {
			if got, err := Combine(shares[:n]); err != nil || !bytes.Equal(got, secret) {
				t.Fatalf("%d of %d shares, %d needed, restore another secret: %v", n, total, threshold, err)
			}
		}
		if len(secret) >= 16 && threshold > 2 { // a match by chance is one in 2^128
			if got, err := Combine(shares[:threshold-1]); err != nil || bytes.Equal(got, secret) {
				t.Fatalf("%d shares restore the secret, %d are needed: %v", threshold-1, threshold, err)
			}
		}
	}
}

// TestOneShareRevealsNothing splits one secret many times and checks that each value of a share's byte is about equally
// frequent.
func TestOneShareRevealsNothing(t *testing.T) {
	var seen [256]int
	const rounds = 256 * 200
	for range rounds / 64 {
		shares, err := Split(make([]byte, 64), 2, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, y := range shares[0].Y {
			seen[y]++
		}
	}
	chi := 0.0
	for _, n := range seen {
		d := float64(n) - rounds/256
		chi += d * d / (rounds / 256)
	}
	if chi > 400 { // 255 degrees of freedom: one in 10^8
		t.Errorf("chi-square %.0f: the values are not uniform", chi)
	}
}

func TestSplitRefuses(t *testing.T) {
	for _, c := range [][3]int{{0, 3, 2}, {32, 3, 1}, {32, 3, 0}, {32, 2, 3}, {32, 256, 2}, {32, -1, -1}} {
		if _, err := Split(make([]byte, c[0]), c[1], c[2]); !errors.Is(err, ErrShare) {
			t.Errorf("%v: %v", c, err)
		}
	}
	a, err := Split([]byte("secret"), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Split([]byte("secret"), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	for name, shares := range map[string][]Share{
		"none": nil, "one": a[:1], "duplicate share": {a[0], a[0]}, "of two sets": {a[0], b[1]}, "the secret itself": {a[0], {Set: a[0].Set, Threshold: 2, Y: a[0].Y}},
		"of two lengths": {a[0], {Set: a[0].Set, Threshold: 2, X: 9, Y: a[1].Y[1:]}},
	} {
		if _, err := Combine(shares); !errors.Is(err, ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShareText(t *testing.T) {
	shares, err := Split([]byte("0123456789abcdef0123456789abcdef"), 5, 3)
	if err != nil {
		t.Fatal(err)
	}
	text := shares[2].String()
	for _, form := range []string{text, " " + text + "\n"} {
		got, err := ParseShare(form)
		if err != nil || got.X != 3 || got.Threshold != 3 || got.Set != shares[2].Set || !bytes.Equal(got.Y, shares[2].Y) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	for i := len(sharePrefix); i < len(text); i++ { // every typing error is detected
		for _, r := range []byte("AZ_") {
			if wrong := text[:i] + string(r) + text[i+1:]; wrong != text {
				if _, err := ParseShare(wrong); !errors.Is(err, ErrShare) {
					t.Fatalf("a wrong character at %d was accepted: %v", i, err)
				} else if strings.Contains(err.Error(), text[len(sharePrefix):len(sharePrefix)+8]) {
					t.Fatalf("the error contains the share")
				}
			}
		}
		if _, err := ParseShare(text[:i]); !errors.Is(err, ErrShare) {
			t.Fatalf("a share cut at %d was accepted: %v", i, err)
		}
	}
}

func FuzzParseShare(f *testing.F) {
	shares, err := Split([]byte("0123456789abcdef"), 3, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shares[0].String())
	f.Add(sharePrefix)
	f.Add(sharePrefix + "AAAA\nAAAA")
	f.Add("vshare2." + strings.Repeat("A", 600))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShare(text)
		if err != nil {
			if !errors.Is(err, ErrShare) {
				t.Fatal(err)
			}
			return
		}
		if s.String() != strings.TrimSpace(text) {
			t.Errorf("%q and %q are the same share", text, s.String())
		}
	})
}
