// SPDX-License-Identifier: GPL-2.0-only
/*
 * Virtual GPUs without a GPU, for testing Lamina on a real kernel.
 *
 * Binds, under the name "nvidia", to two devices that QEMU emulates and that do nothing of their own here:
 *
 *   edu  (1234:11e8)   a GPU without virtual functions: the parent of its mediated devices
 *   nvme (1b36:0010)   a GPU with SR-IOV: its virtual functions are the parents. The parameter "vendor_vfio" lists the
 *                      physical functions whose vGPUs are made the vendor-specific way, by nvidia/current_vgpu_type
 *                      on each function; on the others they are mediated devices
 *
 * Each GPU has one framebuffer, and while any vGPU stands on it only vGPUs of the same size fit (equal-size mode). A
 * vGPU is a PCI device of class "3D controller" with one memory BAR and no interrupts; it does no DMA.
 *
 * Interfaces: Documentation/driver-api/vfio-mediated-device.rst, Documentation/driver-api/vfio.rst,
 * include/uapi/linux/vfio.h of Linux 6.1. What NVIDIA's driver answers is public in recordings of its files.
 */

#include <asm/unaligned.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>
#include <linux/vmalloc.h>

#define LAB_FRAMEBUFFER_MB	2048
#define LAB_BAR_SIZE		(64 * 1024)
#define LAB_VENDOR		0x10de
#define LAB_DEVICE		0x1eb8
#define LAB_OFFSET_SHIFT	40

struct lab_profile {
	unsigned int id;
	const char *number;
	const char *name;
	unsigned int framebuffer_mb;
};

static const struct lab_profile lab_profiles[] = {
	{ 11, "11", "NVIDIA LAB-0Q", 512 },
	{ 12, "12", "NVIDIA LAB-1Q", 1024 },
};

#define LAB_PROFILES ARRAY_SIZE(lab_profiles)

/* A physical GPU; lock orders everything that stands on it. */
struct lab_gpu {
	struct mutex lock;
	unsigned int count;
	unsigned int framebuffer_mb;	/* of each vGPU there is, while there is any */
	bool vendor_vfio;
};

struct lab_slot;

struct lab_type {
	struct mdev_type type;
	struct lab_slot *slot;
	const struct lab_profile *profile;
};

struct lab_vgpu;

/* Where vGPUs are made: the GPU itself, or one of its virtual functions. */
struct lab_slot {
	struct pci_dev *pdev;
	struct lab_gpu *gpu;
	unsigned int count;
	struct mdev_parent parent;
	struct lab_type types[LAB_PROFILES];
	struct mdev_type *type_list[LAB_PROFILES];
	struct mutex lock;		/* of the vendor's files */
	struct lab_vgpu *vgpu;		/* made by the vendor's files */
};

struct lab_vgpu {
	struct vfio_device vdev;
	struct lab_slot *slot;
	const struct lab_profile *profile;
	atomic_t opened;
	u8 config[PCI_CFG_SPACE_SIZE];
	u8 *bar;
};

/* ------------------------------------------------------------------------------------------------ parameters */

static char *vendor_vfio = "";
module_param(vendor_vfio, charp, 0444);
MODULE_PARM_DESC(vendor_vfio, "Physical functions (0000:02:00.0,...) whose vGPUs are made by the vendor's own files");

static int fail_create;
module_param(fail_create, int, 0644);
MODULE_PARM_DESC(fail_create, "The next creation fails with this errno");

static int fail_created;
module_param(fail_created, int, 0644);
MODULE_PARM_DESC(fail_created, "The next creation by the vendor's files is done and told as failed with this errno");

static int fail_clear;
module_param(fail_clear, int, 0644);
MODULE_PARM_DESC(fail_clear, "The next clearing by the vendor's files fails with this errno");

static int take(int *parameter)
{
	return -xchg(parameter, 0);
}

/* ------------------------------------------------------------------------------------------------ room */

static unsigned int lab_most(const struct lab_profile *profile)
{
	return LAB_FRAMEBUFFER_MB / profile->framebuffer_mb;
}

/* How many more of a profile can be made at a slot; the GPU's lock is held. */
static unsigned int lab_room(const struct lab_slot *slot, const struct lab_profile *profile)
{
	const struct lab_gpu *gpu = slot->gpu;
	unsigned int most = lab_most(profile);

	if (gpu->count && gpu->framebuffer_mb != profile->framebuffer_mb)
		return 0;
	if (gpu->count >= most)
		return 0;
	if (slot->pdev->is_virtfn)
		return slot->count ? 0 : 1;
	return most - gpu->count;
}

static unsigned int lab_room_now(struct lab_slot *slot, const struct lab_profile *profile)
{
	unsigned int room;

	mutex_lock(&slot->gpu->lock);
	room = lab_room(slot, profile);
	mutex_unlock(&slot->gpu->lock);
	return room;
}

static bool lab_occupy(struct lab_slot *slot, const struct lab_profile *profile)
{
	bool fits;

	mutex_lock(&slot->gpu->lock);
	fits = lab_room(slot, profile);
	if (fits) {
		slot->count++;
		slot->gpu->count++;
		slot->gpu->framebuffer_mb = profile->framebuffer_mb;
	}
	mutex_unlock(&slot->gpu->lock);
	return fits;
}

static void lab_vacate(struct lab_slot *slot)
{
	mutex_lock(&slot->gpu->lock);
	slot->count--;
	slot->gpu->count--;
	mutex_unlock(&slot->gpu->lock);
}

/* ------------------------------------------------------------------------------------------------ the vGPU as a VFIO device */

static struct lab_vgpu *to_vgpu(struct vfio_device *vdev)
{
	return container_of(vdev, struct lab_vgpu, vdev);
}

static void lab_reset(struct lab_vgpu *vgpu)
{
	u8 *config = vgpu->config;

	memset(config, 0, sizeof(vgpu->config));
	put_unaligned_le16(LAB_VENDOR, config + PCI_VENDOR_ID);
	put_unaligned_le16(LAB_DEVICE, config + PCI_DEVICE_ID);
	put_unaligned_le16(PCI_CLASS_DISPLAY_3D, config + PCI_CLASS_DEVICE);
	put_unaligned_le16(LAB_VENDOR, config + PCI_SUBSYSTEM_VENDOR_ID);
	put_unaligned_le16(vgpu->profile->id, config + PCI_SUBSYSTEM_ID);
	put_unaligned_le32(PCI_BASE_ADDRESS_MEM_PREFETCH, config + PCI_BASE_ADDRESS_0);
	memset(vgpu->bar, 0, LAB_BAR_SIZE);
}

static int lab_vdev_init(struct vfio_device *vdev)
{
	struct lab_vgpu *vgpu = to_vgpu(vdev);

	vgpu->bar = vzalloc(LAB_BAR_SIZE);
	return vgpu->bar ? 0 : -ENOMEM;
}

static void lab_vdev_release(struct vfio_device *vdev)
{
	vfree(to_vgpu(vdev)->bar);
	vfio_free_device(vdev);
}

static int lab_vdev_open(struct vfio_device *vdev)
{
	atomic_inc(&to_vgpu(vdev)->opened);
	return 0;
}

static void lab_vdev_close(struct vfio_device *vdev)
{
	atomic_dec(&to_vgpu(vdev)->opened);
}

/* The guest may change its command register and where its BAR is; all else is fixed. */
static void lab_write_config(struct lab_vgpu *vgpu, unsigned int at, u8 value)
{
	if (at == PCI_COMMAND || at == PCI_COMMAND + 1 || at == PCI_INTERRUPT_LINE)
		vgpu->config[at] = value;
	if (at >= PCI_BASE_ADDRESS_0 && at < PCI_BASE_ADDRESS_1) {
		u32 bar;

		vgpu->config[at] = value;
		bar = get_unaligned_le32(vgpu->config + PCI_BASE_ADDRESS_0);
		bar = (bar & ~(u32)(LAB_BAR_SIZE - 1)) | PCI_BASE_ADDRESS_MEM_PREFETCH;
		put_unaligned_le32(bar, vgpu->config + PCI_BASE_ADDRESS_0);
	}
}

/* The memory behind an offset of the device's file, or NULL; count is cut to what is there. */
static u8 *lab_region(struct lab_vgpu *vgpu, loff_t offset, size_t *count, bool *is_config)
{
	unsigned int index = offset >> LAB_OFFSET_SHIFT;
	u64 at = offset & ((1ULL << LAB_OFFSET_SHIFT) - 1);
	u64 size = index == VFIO_PCI_CONFIG_REGION_INDEX ? sizeof(vgpu->config) : LAB_BAR_SIZE;

	*is_config = index == VFIO_PCI_CONFIG_REGION_INDEX;
	if ((!*is_config && index != VFIO_PCI_BAR0_REGION_INDEX) || at >= size)
		return NULL;
	*count = min_t(u64, *count, size - at);
	return (*is_config ? vgpu->config : vgpu->bar) + at;
}

static ssize_t lab_vdev_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *ppos)
{
	bool is_config;
	u8 *memory = lab_region(to_vgpu(vdev), *ppos, &count, &is_config);

	if (!memory)
		return -EINVAL;
	if (copy_to_user(buf, memory, count))
		return -EFAULT;
	*ppos += count;
	return count;
}

static ssize_t lab_vdev_write(struct vfio_device *vdev, const char __user *buf, size_t count, loff_t *ppos)
{
	struct lab_vgpu *vgpu = to_vgpu(vdev);
	bool is_config;
	u8 *memory = lab_region(vgpu, *ppos, &count, &is_config);
	u8 written[16];
	size_t i;

	if (!memory)
		return -EINVAL;
	if (is_config) {
		count = min(count, sizeof(written));
		if (copy_from_user(written, buf, count))
			return -EFAULT;
		for (i = 0; i < count; i++)
			lab_write_config(vgpu, memory - vgpu->config + i, written[i]);
	} else if (copy_from_user(memory, buf, count)) {
		return -EFAULT;
	}
	*ppos += count;
	return count;
}

static long lab_device_info(void __user *arg)
{
	struct vfio_device_info info;
	const size_t least = offsetofend(struct vfio_device_info, num_irqs);

	if (copy_from_user(&info, arg, least))
		return -EFAULT;
	if (info.argsz < least)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, least) ? -EFAULT : 0;
}

static long lab_region_info(void __user *arg)
{
	struct vfio_region_info info;
	const size_t least = offsetofend(struct vfio_region_info, offset);

	if (copy_from_user(&info, arg, least))
		return -EFAULT;
	if (info.argsz < least || info.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info.cap_offset = 0;
	info.offset = (u64)info.index << LAB_OFFSET_SHIFT;
	info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	if (info.index == VFIO_PCI_CONFIG_REGION_INDEX) {
		info.size = PCI_CFG_SPACE_SIZE;
	} else if (info.index == VFIO_PCI_BAR0_REGION_INDEX) {
		info.size = LAB_BAR_SIZE;
	} else {
		info.size = 0;
		info.flags = 0;
	}
	return copy_to_user(arg, &info, least) ? -EFAULT : 0;
}

static long lab_irq_info(void __user *arg)
{
	struct vfio_irq_info info;
	const size_t least = offsetofend(struct vfio_irq_info, count);

	if (copy_from_user(&info, arg, least))
		return -EFAULT;
	if (info.argsz < least || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.flags = 0;
	info.count = 0;
	return copy_to_user(arg, &info, least) ? -EFAULT : 0;
}

static long lab_vdev_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return lab_device_info(user);
	case VFIO_DEVICE_GET_REGION_INFO:
		return lab_region_info(user);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return lab_irq_info(user);
	case VFIO_DEVICE_RESET:
		lab_reset(to_vgpu(vdev));
		return 0;
	}
	return -ENOTTY;
}

static const struct vfio_device_ops lab_vdev_ops = {
	.name = "lamina-lab-vgpu",
	.init = lab_vdev_init,
	.release = lab_vdev_release,
	.open_device = lab_vdev_open,
	.close_device = lab_vdev_close,
	.read = lab_vdev_read,
	.write = lab_vdev_write,
	.ioctl = lab_vdev_ioctl,
};

static struct lab_vgpu *lab_vgpu_make(struct lab_slot *slot, const struct lab_profile *profile, struct device *dev, int full)
{
	struct lab_vgpu *vgpu;
	int ret = take(&fail_create);

	if (ret)
		return ERR_PTR(ret);
	if (!lab_occupy(slot, profile))
		return ERR_PTR(full);
	vgpu = vfio_alloc_device(lab_vgpu, vdev, dev, &lab_vdev_ops);
	if (IS_ERR(vgpu)) {
		lab_vacate(slot);
		return vgpu;
	}
	vgpu->slot = slot;
	vgpu->profile = profile;
	lab_reset(vgpu);
	ret = vfio_register_emulated_iommu_dev(&vgpu->vdev);
	if (ret) {
		vfio_put_device(&vgpu->vdev);
		lab_vacate(slot);
		return ERR_PTR(ret);
	}
	return vgpu;
}

/* Waits until nobody has the device open any more. */
static void lab_vgpu_end(struct lab_vgpu *vgpu)
{
	struct lab_slot *slot = vgpu->slot;

	vfio_unregister_group_dev(&vgpu->vdev);
	vfio_put_device(&vgpu->vdev);
	lab_vacate(slot);
}

/* ------------------------------------------------------------------------------------------------ mediated devices */

static struct lab_type *to_type(struct mdev_type *mtype)
{
	return container_of(mtype, struct lab_type, type);
}

static int lab_mdev_probe(struct mdev_device *mdev)
{
	struct lab_type *type = to_type(mdev->type);
	struct lab_vgpu *vgpu = lab_vgpu_make(type->slot, type->profile, &mdev->dev, -EINVAL);

	if (IS_ERR(vgpu))
		return PTR_ERR(vgpu);
	dev_set_drvdata(&mdev->dev, vgpu);
	return 0;
}

static void lab_mdev_remove(struct mdev_device *mdev)
{
	lab_vgpu_end(dev_get_drvdata(&mdev->dev));
}

static unsigned int lab_mdev_available(struct mdev_type *mtype)
{
	struct lab_type *type = to_type(mtype);

	return lab_room_now(type->slot, type->profile);
}

static ssize_t lab_mdev_description(struct mdev_type *mtype, char *buf)
{
	const struct lab_profile *profile = to_type(mtype)->profile;

	return sysfs_emit(buf, "num_heads=4, frl_config=60, framebuffer=%uM, max_resolution=7680x4320, max_instance=%u\n",
			  profile->framebuffer_mb, lab_most(profile));
}

static struct mdev_driver lab_mdev_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.probe = lab_mdev_probe,
	.remove = lab_mdev_remove,
	.get_available = lab_mdev_available,
	.show_description = lab_mdev_description,
	.driver = {
		.name = "nvidia-vgpu-vfio",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
	},
};

static int lab_mdev_register(struct lab_slot *slot)
{
	size_t i;

	for (i = 0; i < LAB_PROFILES; i++) {
		struct lab_type *type = &slot->types[i];

		type->slot = slot;
		type->profile = &lab_profiles[i];
		type->type.sysfs_name = type->profile->number;
		type->type.pretty_name = type->profile->name;
		slot->type_list[i] = &type->type;
	}
	return mdev_register_parent(&slot->parent, &slot->pdev->dev, &lab_mdev_driver, slot->type_list, LAB_PROFILES);
}

/* ------------------------------------------------------------------------------------------------ the vendor's own files */

static struct lab_slot *to_slot(struct device *dev)
{
	return dev_get_drvdata(dev);
}

static ssize_t creatable_vgpu_types_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct lab_slot *slot = to_slot(dev);
	ssize_t len = sysfs_emit(buf, "ID    : vGPU Name\n");
	size_t i;

	for (i = 0; i < LAB_PROFILES; i++)
		if (lab_room_now(slot, &lab_profiles[i]))
			len += sysfs_emit_at(buf, len, "%-6u: %s\n", lab_profiles[i].id, lab_profiles[i].name);
	return len;
}
static DEVICE_ATTR_RO(creatable_vgpu_types);

static ssize_t current_vgpu_type_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct lab_slot *slot = to_slot(dev);
	unsigned int id;

	mutex_lock(&slot->lock);
	id = slot->vgpu ? slot->vgpu->profile->id : 0;
	mutex_unlock(&slot->lock);
	return sysfs_emit(buf, "%u\n", id);
}

static int lab_vendor_clear(struct lab_slot *slot)
{
	int ret;

	if (!slot->vgpu)
		return 0;
	if (atomic_read(&slot->vgpu->opened))
		return -EBUSY;
	ret = take(&fail_clear);
	if (ret)
		return ret;
	lab_vgpu_end(slot->vgpu);
	slot->vgpu = NULL;
	return 0;
}

static int lab_vendor_make(struct lab_slot *slot, unsigned int id)
{
	const struct lab_profile *profile = NULL;
	struct lab_vgpu *vgpu;
	size_t i;

	for (i = 0; i < LAB_PROFILES; i++)
		if (lab_profiles[i].id == id)
			profile = &lab_profiles[i];
	if (!profile)
		return -EINVAL;
	vgpu = lab_vgpu_make(slot, profile, &slot->pdev->dev, -EIO);
	if (IS_ERR(vgpu))
		return PTR_ERR(vgpu);
	slot->vgpu = vgpu;
	return take(&fail_created);
}

static ssize_t current_vgpu_type_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	struct lab_slot *slot = to_slot(dev);
	unsigned int id;
	int ret = kstrtouint(buf, 10, &id);

	if (ret)
		return -EINVAL;
	mutex_lock(&slot->lock);
	ret = id ? lab_vendor_make(slot, id) : lab_vendor_clear(slot);
	mutex_unlock(&slot->lock);
	return ret ? ret : count;
}
static DEVICE_ATTR_RW(current_vgpu_type);

static ssize_t placement_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct lab_slot *slot = to_slot(dev);
	ssize_t len = -ENXIO;

	mutex_lock(&slot->lock);
	if (slot->vgpu)
		len = sysfs_emit(buf, "%u\n", 0);
	mutex_unlock(&slot->lock);
	return len;
}
static DEVICE_ATTR_RO(placement_id);

static ssize_t vgpu_params_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "\n");
}
static DEVICE_ATTR_RO(vgpu_params);

static struct attribute *lab_vendor_attributes[] = {
	&dev_attr_creatable_vgpu_types.attr,
	&dev_attr_current_vgpu_type.attr,
	&dev_attr_placement_id.attr,
	&dev_attr_vgpu_params.attr,
	NULL,
};

static const struct attribute_group lab_vendor_group = {
	.name = "nvidia",
	.attrs = lab_vendor_attributes,
};

/* ------------------------------------------------------------------------------------------------ the PCI driver */

static bool lab_is_vendor_vfio(struct pci_dev *pdev)
{
	const char *found = strstr(vendor_vfio, pci_name(pdev));

	return found && (found == vendor_vfio || found[-1] == ',');
}

static struct lab_gpu *lab_gpu_make(struct pci_dev *pdev)
{
	struct lab_gpu *gpu = devm_kzalloc(&pdev->dev, sizeof(*gpu), GFP_KERNEL);

	if (gpu) {
		mutex_init(&gpu->lock);
		gpu->vendor_vfio = lab_is_vendor_vfio(pdev);
	}
	return gpu;
}

static int lab_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	bool has_functions = id->driver_data;
	struct lab_slot *slot;
	struct lab_gpu *gpu;
	int ret;

	gpu = pdev->is_virtfn ? pci_get_drvdata(pci_physfn(pdev)) : lab_gpu_make(pdev);
	if (!gpu)
		return pdev->is_virtfn ? -ENODEV : -ENOMEM;
	if (has_functions && !pdev->is_virtfn) {
		pci_set_drvdata(pdev, gpu);	/* a physical function: nothing is made on it */
		return 0;
	}
	slot = devm_kzalloc(&pdev->dev, sizeof(*slot), GFP_KERNEL);
	if (!slot)
		return -ENOMEM;
	slot->pdev = pdev;
	slot->gpu = gpu;
	mutex_init(&slot->lock);
	pci_set_drvdata(pdev, slot);
	ret = gpu->vendor_vfio ? device_add_group(&pdev->dev, &lab_vendor_group) : lab_mdev_register(slot);
	if (ret)
		pci_set_drvdata(pdev, NULL);
	return ret;
}

static void lab_pci_remove(struct pci_dev *pdev)
{
	struct lab_slot *slot = pci_get_drvdata(pdev);

	if (pdev->is_physfn) {
		pci_disable_sriov(pdev);
		return;
	}
	if (!slot->gpu->vendor_vfio) {
		mdev_unregister_parent(&slot->parent);
		return;
	}
	device_remove_group(&pdev->dev, &lab_vendor_group);
	if (slot->vgpu)
		lab_vgpu_end(slot->vgpu);
}

static const struct pci_device_id lab_pci_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8), .driver_data = false },
	{ PCI_DEVICE(0x1b36, 0x0010), .driver_data = true },
	{ }
};
MODULE_DEVICE_TABLE(pci, lab_pci_ids);

static struct pci_driver lab_pci_driver = {
	.name = "nvidia",
	.id_table = lab_pci_ids,
	.probe = lab_pci_probe,
	.remove = lab_pci_remove,
	.sriov_configure = pci_sriov_configure_simple,
};

static int __init lab_init(void)
{
	int ret = mdev_register_driver(&lab_mdev_driver);

	if (ret)
		return ret;
	ret = pci_register_driver(&lab_pci_driver);
	if (ret)
		mdev_unregister_driver(&lab_mdev_driver);
	return ret;
}

static void __exit lab_exit(void)
{
	pci_unregister_driver(&lab_pci_driver);
	mdev_unregister_driver(&lab_mdev_driver);
}

module_init(lab_init);
module_exit(lab_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1.0");
MODULE_DESCRIPTION("Virtual GPUs without a GPU");
