// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
)

// CreateNetwork creates the bridge with the node's address, and routes Services to it so that the machine itself can
// reach them even without a default route.
func CreateNetwork() error {
	link, err := netlink.LinkByName(layout.Bridge)
	if err != nil {
		if !errors.As(err, &netlink.LinkNotFoundError{}) {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = layout.Bridge
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("bridge %s: %w", layout.Bridge, err)
		}
		if link, err = netlink.LinkByName(layout.Bridge); err != nil {
			return err
		}
	}
	_, pods, err := net.ParseCIDR(layout.PodCIDR)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(layout.NodeIP), Mask: pods.Mask}}
	if err := netlink.AddrReplace(link, address); err != nil {
		return fmt.Errorf("address of %s: %w", layout.Bridge, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bridge %s: %w", layout.Bridge, err)
	}
	_, services, err := net.ParseCIDR(layout.ServiceCIDR)
	if err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: services, Src: net.ParseIP(layout.NodeIP), Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route to %s: %w", layout.ServiceCIDR, err)
	}
	return nil
}

// RemoveNetwork removes the bridge and the interfaces attached to it.
func RemoveNetwork() error {
	bridge, err := netlink.LinkByName(layout.Bridge)
	if err != nil {
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Attrs().MasterIndex == bridge.Attrs().Index && link.Type() == "veth" {
			if err := netlink.LinkDel(link); err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
				return fmt.Errorf("interface %s: %w", link.Attrs().Name, err)
			}
		}
	}
	return netlink.LinkDel(bridge)
}

// nodeSettings are the kernel settings that the node needs.
var nodeSettings = map[string]string{
	"net/ipv4/ip_forward":                "1",
	"net/bridge/bridge-nf-call-iptables": "1",
}

// changed are the kernel settings that the kubelet and kube-proxy change on their own.
var changed = []string{
	"net/ipv4/conf/all/route_localnet", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

func sysctlPath(key string) string { return filepath.Join("/proc/sys", key) }

// SetKernel records the kernel settings in the file record, unless it exists already, and applies those the node needs.
func SetKernel(record string) error {
	if _, err := os.Stat(record); errors.Is(err, os.ErrNotExist) {
		before := map[string]string{}
		keys := append([]string{}, changed...)
		for key := range nodeSettings {
			keys = append(keys, key)
		}
		for _, key := range keys {
			if b, err := os.ReadFile(sysctlPath(key)); err == nil {
				before[key] = strings.TrimSpace(string(b))
			}
		}
		b, err := json.Marshal(before)
		if err != nil {
			return err
		}
		if err := os.WriteFile(record, b, 0o600); err != nil {
			return err
		}
	}
	for key, value := range nodeSettings {
		if err := os.WriteFile(sysctlPath(key), []byte(value), 0o644); err != nil {
			return fmt.Errorf("kernel setting %s: %w", key, err)
		}
	}
	return nil
}

// RestoreKernel resets the kernel settings to those in record; without a record nothing was changed.
func RestoreKernel(record string) error {
	b, err := os.ReadFile(record)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var before map[string]string
	if err := json.Unmarshal(b, &before); err != nil {
		return fmt.Errorf("%s: %w", record, err)
	}
	var failed []error
	for key, value := range before {
		now, err := os.ReadFile(sysctlPath(key))
		if err != nil || strings.TrimSpace(string(now)) == value {
			continue
		}
		if err := os.WriteFile(sysctlPath(key), []byte(value), 0o644); err != nil {
			failed = append(failed, fmt.Errorf("kernel setting %s: %w", key, err))
		}
	}
	return errors.Join(failed...)
}
