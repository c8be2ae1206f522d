// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// PodTrouble says in a sentence what keeps a Pod from running; "" when nothing does. The sentence stays the same as long
// as the cause does, although the kubelet alternates between several states: a status that quotes it does not flap.
func PodTrouble(pods []corev1.Pod) string {
	for i := range pods {
		pod := &pods[i]
		if !pod.DeletionTimestamp.IsZero() {
			continue
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && condition.Message != "" {
				return fmt.Sprintf("Pod %s cannot be scheduled: %s", pod.Name, lastLine(condition.Message))
			}
		}
		for _, container := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if why := containerTrouble(&container); why != "" {
				return fmt.Sprintf("Pod %s: %s", pod.Name, why)
			}
		}
	}
	return ""
}

func containerTrouble(status *corev1.ContainerStatus) string {
	if waiting := status.State.Waiting; waiting != nil {
		switch waiting.Reason {
		case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull":
			return fmt.Sprintf("image %q cannot be pulled; check its name, and the credentials for its registry", status.Image)
		case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
			return "the container cannot be made: " + lastLine(waiting.Message)
		}
	}
	ended := status.LastTerminationState.Terminated
	if status.State.Terminated != nil {
		ended = status.State.Terminated
	}
	if ended == nil || status.Ready || ended.ExitCode == 0 {
		return ""
	}
	if ended.Reason == "OOMKilled" {
		return fmt.Sprintf("container %s ran out of memory and restarts; raise its memory limit", status.Name)
	}
	why := fmt.Sprintf("container %s ended with exit code %d and restarts", status.Name, ended.ExitCode)
	if said := lastLine(ended.Message); said != "" {
		why += ": " + said
	}
	return why
}

// lastLine returns the end of a text, on one line: programs say there why they stop.
func lastLine(text string) string {
	const longest = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longest {
		text = "…" + strings.ToValidUTF8(text[len(text)-longest:], "")
	}
	return text
}
