// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
)

// runtimeClient talks to containerd as the kubelet does.
type runtimeClient struct {
	conn   *grpc.ClientConn
	pods   runtimeapi.RuntimeServiceClient
	images runtimeapi.ImageServiceClient
}

func dialRuntime(l layout.Layout) (*runtimeClient, error) {
	conn, err := grpc.NewClient("unix://"+l.ContainerdSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &runtimeClient{conn: conn, pods: runtimeapi.NewRuntimeServiceClient(conn), images: runtimeapi.NewImageServiceClient(conn)}, nil
}

// Close closes the connection.
func (c *runtimeClient) Close() { _ = c.conn.Close() }

func (c *runtimeClient) ready(ctx context.Context) error {
	status, err := c.pods.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return err
	}
	for _, condition := range status.GetStatus().GetConditions() {
		if condition.GetType() == runtimeapi.RuntimeReady && !condition.GetStatus() {
			return fmt.Errorf("container runtime: %s", condition.GetMessage())
		}
	}
	return nil
}

// imageNames returns the names of all images that the kubelet can use.
func (c *runtimeClient) imageNames(ctx context.Context) (map[string]bool, error) {
	list, err := c.images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, image := range list.GetImages() {
		for _, tag := range image.GetRepoTags() {
			names[tag] = true
		}
	}
	return names, nil
}

// removePods kills and removes all pods, four at a time.
func (c *runtimeClient) removePods(ctx context.Context) error {
	list, err := c.pods.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	var (
		wait   sync.WaitGroup
		mu     sync.Mutex
		failed []error
	)
	slots := make(chan struct{}, 4)
	for _, pod := range list.GetItems() {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			_, err := c.pods.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod.GetId()})
			if err == nil {
				_, err = c.pods.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.GetId()})
			}
			if err != nil {
				mu.Lock()
				failed = append(failed, fmt.Errorf("pod %s/%s: %w", pod.GetMetadata().GetNamespace(), pod.GetMetadata().GetName(), err))
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return errors.Join(failed...)
}
