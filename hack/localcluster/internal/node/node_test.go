// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"
	"testing"
)

func TestRemovalRules(t *testing.T) {
	tests := []struct{ name, saved, want string }{
		{name: "nothing", saved: "", want: ""},
		{
			name:  "only chains of others",
			saved: "# comment\n*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n-A PREROUTING -j DOCKER\n-A DOCKER -m comment --comment \"-j KUBE-X\" -j RETURN\nCOMMIT\n",
			want:  "",
		},
		{
			name: "ours among others",
			saved: "*filter\n:FORWARD ACCEPT [0:0]\n:KUBE-FORWARD - [0:0]\n:MINE - [0:0]\n-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n" +
				"-A FORWARD -j MINE\n-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\nCOMMIT\n" +
				"*nat\n:CNI-DN-abc - [0:0]\n:CNI-HOSTPORT-DNAT - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -g CNI-HOSTPORT-DNAT\nCOMMIT\n",
			want: "*filter\n:KUBE-FORWARD - [0:0]\n-D FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n-X KUBE-FORWARD\nCOMMIT\n" +
				"*nat\n:CNI-DN-abc - [0:0]\n:CNI-HOSTPORT-DNAT - [0:0]\n-D PREROUTING -m addrtype --dst-type LOCAL -g CNI-HOSTPORT-DNAT\n-X CNI-DN-abc\n-X CNI-HOSTPORT-DNAT\nCOMMIT\n",
		},
		{
			name:  "our own rules are all removed",
			saved: ":skipped\n*filter\n:ITECHSMART-FORWARD - [0:0]\n-A FORWARD -j ITECHSMART-FORWARD\n-A ITECHSMART-FORWARD -i itechsmart0 -j ACCEPT\nCOMMIT\n",
			want:  "*filter\n:ITECHSMART-FORWARD - [0:0]\n-D FORWARD -j ITECHSMART-FORWARD\n-X ITECHSMART-FORWARD\nCOMMIT\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := RemovalRules(tt.saved); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestMountsBelow(t *testing.T) {
	mountinfo := "22 1 254:0 / / rw - ext4 /dev/vda rw\n" +
		"30 22 0:30 / /c/cluster/kubelet/pods/a rw - tmpfs tmpfs rw\n" +
		"31 30 0:31 / /c/cluster/kubelet/pods/a/with\\040space rw - tmpfs tmpfs rw\n" +
		"32 22 0:32 / /c/cluster-of-others rw - tmpfs tmpfs rw\n" +
		"broken\n"
	got := MountsBelow(mountinfo, "/c/cluster")
	want := []string{"/c/cluster/kubelet/pods/a/with space", "/c/cluster/kubelet/pods/a"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
