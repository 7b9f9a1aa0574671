"""PyTorch networks to compare with, written independently of the JAX ones."""

import torch
from torch import nn

VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


class VGG(nn.Module):
    def __init__(self, batch_norm: bool):
        super().__init__()
        modules, channels = [], 3
        for width in VGG11:
            if width == "M":
                modules.append(nn.MaxPool2d(2, 2))
                continue
            modules.append(nn.Conv2d(channels, width, 3, padding=1))
            modules += [nn.BatchNorm2d(width)] if batch_norm else []
            modules.append(nn.ReLU())
            channels = width
        self.features = nn.Sequential(*modules)
        self.classifier = nn.Linear(512, 10)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class BasicBlock(nn.Module):
    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x):
        z = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(z + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.linear = nn.Linear(512, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean((2, 3)))


def AlexNet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 192, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Dropout(), nn.Linear(256 * 2 * 2, 4096), nn.ReLU()),
        *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()),
        nn.Linear(4096, 10),
    )


class InvertedResidual(nn.Module):
    def __init__(self, channels: int, width: int, expansion: int, filter_size: int, stride: int):
        super().__init__()
        inside = expansion * channels
        expand = [nn.Conv2d(channels, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.SiLU()]
        self.expand = nn.Sequential(*expand if expansion > 1 else [])
        self.depthwise = nn.Sequential(
            nn.Conv2d(inside, inside, filter_size, stride, filter_size // 2, 1, inside, False),
            *(nn.BatchNorm2d(inside), nn.SiLU()),
        )
        self.excite = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inside, channels // 4, 1), nn.SiLU()),
            *(nn.Conv2d(channels // 4, inside, 1), nn.Sigmoid()),
        )
        self.project = nn.Sequential(nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width))
        self.skips = stride == 1 and channels == width

    def forward(self, x):
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.excite(y))
        return x + y if self.skips else y


def EfficientNetB0() -> nn.Module:
    modules = [nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.SiLU()]
    channels = 32
    for expansion, width, blocks, filter_size, stride in (
        (1, 16, 1, 3, 1),
        (6, 24, 2, 3, 2),
        (6, 40, 2, 5, 2),
        (6, 80, 3, 3, 2),
        (6, 112, 3, 5, 1),
        (6, 192, 4, 5, 2),
        (6, 320, 1, 3, 1),
    ):
        for block in range(blocks):
            first = stride if block == 0 else 1
            modules.append(InvertedResidual(channels, width, expansion, filter_size, first))
            channels = width
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*modules, *pooled, nn.Linear(320, 10))
