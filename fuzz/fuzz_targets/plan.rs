#![no_main]
bloomery_fuzz::target!(plan);
