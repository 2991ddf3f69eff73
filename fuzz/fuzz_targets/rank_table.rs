#![no_main]
bloomery_fuzz::target!(rank_table);
