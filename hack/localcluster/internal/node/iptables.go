// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"

	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
)

// Chains of our own, for what neither kube-proxy nor a CNI plug-in sets up.
const (
	forwardChain    = "ITECHSMART-FORWARD"
	masqueradeChain = "ITECHSMART-POSTROUTING"
)

// chainPrefixes are the prefixes of the chains of kube-proxy, the kubelet, the CNI plug-ins and ours.
var chainPrefixes = []string{"KUBE-", "CNI-", "ITECHSMART-"}

func ours(chain string) bool {
	for _, prefix := range chainPrefixes {
		if strings.HasPrefix(chain, prefix) {
			return true
		}
	}
	return false
}

// ForwardRules returns the iptables-restore input that lets pods forward, and masquerades their packets to the outside.
func ForwardRules() string {
	return strings.Join([]string{
		"*filter",
		":" + forwardChain + " - [0:0]",
		"-A " + forwardChain + " -i " + layout.Bridge + " -j ACCEPT",
		"-A " + forwardChain + " -o " + layout.Bridge + " -j ACCEPT",
		"-I FORWARD -j " + forwardChain,
		"COMMIT",
		"*nat",
		":" + masqueradeChain + " - [0:0]",
		"-A " + masqueradeChain + " -s " + layout.PodCIDR + " ! -d " + layout.PodCIDR + " ! -o " + layout.Bridge + " -j MASQUERADE",
		"-I POSTROUTING -j " + masqueradeChain,
		"COMMIT", "",
	}, "\n")
}

// RemovalRules turns the output of iptables-save into the input of iptables-restore --noflush that removes our chains and
// the rules that jump to them, and nothing else. It is empty if there is nothing to remove.
func RemovalRules(saved string) string {
	var out strings.Builder
	var table string
	var chains, rules []string
	flush := func() {
		if table != "" && len(chains)+len(rules) > 0 {
			fmt.Fprintln(&out, table)
			for _, chain := range chains {
				// Declaring an existing chain empties it.
				fmt.Fprintf(&out, ":%s - [0:0]\n", chain)
			}
			for _, rule := range rules {
				fmt.Fprintln(&out, rule)
			}
			for _, chain := range chains {
				fmt.Fprintf(&out, "-X %s\n", chain)
			}
			fmt.Fprintln(&out, "COMMIT")
		}
		table, chains, rules = "", nil, nil
	}
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			flush()
			table = line
		case strings.HasPrefix(line, ":"):
			if chain, _, _ := strings.Cut(line[1:], " "); ours(chain) {
				chains = append(chains, chain)
			}
		case strings.HasPrefix(line, "-A "):
			fields := strings.Fields(line)
			if len(fields) > 1 && !ours(fields[1]) && ours(target(fields)) {
				rules = append(rules, "-D "+strings.TrimPrefix(line, "-A "))
			}
		}
	}
	flush()
	return out.String()
}

// target returns the chain that a rule jumps or goes to.
func target(fields []string) string {
	for i, field := range fields[:len(fields)-1] {
		if field == "-j" || field == "-g" {
			return fields[i+1]
		}
	}
	return ""
}

func restore(program, rules string) error {
	cmd := exec.Command(program, "--noflush", "--wait", "10")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return nil
}

// AllowForwarding sets up our own chains, once.
func AllowForwarding() error {
	saved, err := exec.Command("iptables-save").Output()
	if err != nil {
		return fmt.Errorf("iptables-save: %w", err)
	}
	if strings.Contains(string(saved), "-j "+masqueradeChain) && strings.Contains(string(saved), "-j "+forwardChain) {
		return nil
	}
	return restore("iptables-restore", ForwardRules())
}

// RemoveRules removes all chains of the cluster, for IPv4 and IPv6.
func RemoveRules() error {
	for _, family := range []string{"iptables", "ip6tables"} {
		saved, err := exec.Command(family + "-save").Output()
		if err != nil {
			return fmt.Errorf("%s-save: %w", family, err)
		}
		if rules := RemovalRules(string(saved)); rules != "" {
			if err := restore(family+"-restore", rules); err != nil {
				return err
			}
		}
	}
	return nil
}
